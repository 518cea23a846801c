"""The command `tfrs-croloss`, which is also `python -m tfrs_croloss.commands`."""

import sys

from tfrs_croloss.commands.quiet import quiet_stderr


def main():
    """Runs the command line of this process."""
    # As `python -m` does: a module of one's own is found where the command is run.
    if "" not in sys.path:
        sys.path.insert(0, "")
    with quiet_stderr():
        from tfrs_croloss.commands import cli

        cli.main()


if __name__ == "__main__":
    main()
