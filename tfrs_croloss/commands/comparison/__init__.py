"""Comparing losses: the file that names them, their runs, and what these found together."""
