"""`python -m pipelines.serve` is `tfrs-croloss serve`."""

from tfrs_croloss.commands.service.serve import main

if __name__ == "__main__":
    main()
