"""`python -m pipelines.serve` is `tfrs-croloss serve`."""

import sys

from tfrs_croloss_cli import main

if __name__ == "__main__":
    sys.argv.insert(1, "serve")
    main()
