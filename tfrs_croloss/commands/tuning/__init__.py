"""Searching for the options of a loss: the space, the trials and the report."""
