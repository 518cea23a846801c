from pipelines.cli import main
from pipelines.quiet import quiet_stderr

with quiet_stderr():
    main()
