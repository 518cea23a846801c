"""Packages that only a part of the library needs."""

import importlib.util


def require(part, *packages, extra="tfrs"):
    """Raises an ImportError that names the extra to install, unless all `packages` are there.

    Called before `part` imports them, so that this message comes first.
    """
    missing = [package for package in packages if importlib.util.find_spec(package) is None]
    if missing:
        raise ImportError(
            f"{part} needs {', '.join(missing)}, which is not installed. Install the extra: "
            f'pip install "tfrs-croloss[{extra}]"'
        )
