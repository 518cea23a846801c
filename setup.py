"""For tools that ask for this file: all that it had is in pyproject.toml."""

from setuptools import setup

setup()
