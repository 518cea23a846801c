from pipelines.cli import main
from pipelines.quiet import quiet_stderr

quiet_stderr()
main()
