"""The commands of a clone: `python -m pipelines` is `tfrs-croloss`. Your own YAML may lie here."""
