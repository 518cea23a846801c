"""The command `tfrs-croloss`, which is also `python -m tfrs_croloss_cli`.

It stands beside the package, whose import brings Keras. A command imports it when it needs it: the
help takes a fraction of a second, the service does without, and the others set its backend before.
"""

import importlib.util
import sys


def main():
    """Runs the command line of this process."""
    # As `python -m` does: a module of one's own is found in the folder that one is in.
    if "" not in sys.path:
        sys.path.insert(0, "")
    if importlib.util.find_spec("jsonargparse") is None:
        sys.exit('error: the command needs an extra: pip install "tfrs-croloss[pipelines]"')
    from tfrs_croloss.commands.quiet import quiet_stderr

    with quiet_stderr():
        from tfrs_croloss.commands import cli

        cli.main()


if __name__ == "__main__":
    main()
