"""`python -m pipelines.serve` is `tfrs-croloss serve`."""

import sys

from tfrs_croloss.commands.cli import main

if __name__ == "__main__":
    main(["serve", *sys.argv[1:]])
