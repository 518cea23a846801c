"""The command `tfrs-croloss`, which is also `python -m tfrs_croloss.commands`."""

import importlib.util
import sys

from tfrs_croloss.commands.quiet import quiet_stderr


def main():
    """Runs the command line of this process."""
    # As `python -m` does: a module of one's own is found in the folder that one is in.
    if "" not in sys.path:
        sys.path.insert(0, "")
    if importlib.util.find_spec("jsonargparse") is None:
        sys.exit('error: the command needs an extra: pip install "tfrs-croloss[pipelines]"')
    with quiet_stderr():
        from tfrs_croloss.commands import cli

        cli.main()
