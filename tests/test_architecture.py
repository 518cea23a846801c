"""The floors of the house, and that ARCHITECTURE.md and CONTRIBUTING.md name what there is."""

import ast
import re

import pytest

from tests.pages import ROOT

FLOORS = {
    "losses": 1,
    "data": 2,
    "index": 2,
    "retrieval": 3,
    "evaluation": 3,
    "serving": 4,
    "tuning": 4,
    "commands": 5,
}
FOREIGN = {  # beside what is above: what a folder must not know
    "losses": {"tensorflow_recommenders", "tf_keras", "scann", "keras_tuner", "pandas"},
    "data": {"tensorflow_recommenders", "tf_keras", "tfrs_croloss.losses"},
    "index": {"tensorflow_recommenders", "tf_keras", "tfrs_croloss.losses"},
    "serving": {"tfrs_croloss.tuning"},
    "tuning": {"tfrs_croloss.serving", "tensorflow", "tensorflow_recommenders"},
}
BASE = {
    *("_arguments", "_extras", "_files", "_machine"),
    *("_registration", "_saved_models", "_typing"),
}


def imports(path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0
            yield node.module


def test_every_folder_has_its_floor():
    assert {path.parent.name for path in ROOT.glob("tfrs_croloss/*/__init__.py")} == set(FLOORS)


@pytest.mark.parametrize("folder", FLOORS)
def test_a_folder_imports_nothing_from_above(folder):
    for path in ROOT.glob(f"tfrs_croloss/{folder}/**/*.py"):
        for name in imports(path):
            first, second = [*name.split("."), ""][:2]
            assert first not in ("pipelines", "benchmarks", "notebooks"), path
            assert not {first, f"{first}.{second}"} & FOREIGN.get(folder, set()), path
            # Without a second, it is the losses, which the package itself has.
            if first == "tfrs_croloss" and second not in {*BASE, ""}:
                assert FLOORS[second] <= FLOORS[folder], path


def test_the_ground_floor_imports_nothing_from_above():
    assert {path.stem for path in ROOT.glob("tfrs_croloss/_[a-z]*.py")} == BASE
    for path in ROOT.glob("tfrs_croloss/_[a-z]*.py"):
        for name in imports(path):
            first, second = [*name.split("."), ""][:2]
            assert first != "tfrs_croloss" or second in BASE, path


# The rooms of the commands: each imports only those before it, and the service none.
ROOMS = (
    *("quiet", "extras", "recommend", "experiment", "reports", "training", "trained"),
    *("tuning", "comparison", "demo", "service", "cli"),
)


def test_the_rooms_of_the_commands_have_no_circles():
    folder = ROOT / "tfrs_croloss" / "commands"
    rooms = {path.stem for path in folder.glob("*.py")} - {"__init__"}
    assert rooms | {path.parent.name for path in folder.glob("*/__init__.py")} == set(ROOMS)
    for path in folder.glob("**/*.py"):
        room = path.relative_to(folder).parts[0].removesuffix(".py")
        for name in imports(path):
            if name.startswith("tfrs_croloss.commands.") and room != "__init__":
                other = name.split(".")[2]
                assert ROOMS.index(other) <= ROOMS.index(room), path


def test_errors_end_without_a_full_stop():
    messages = [
        (path, node.lineno, part)
        for path in ROOT.glob("tfrs_croloss/**/*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Raise) and isinstance(node.exc, ast.Call) and node.exc.args
        for part in getattr(node.exc.args[-1], "values", node.exc.args)[-1:]
    ]
    assert len(messages) > 100
    for path, line, part in messages:
        text = part.value if isinstance(part, ast.Constant) else ""
        assert not str(text).endswith("."), f"{path}:{line}"


def test_the_service_knows_the_export_alone():
    paths = [*ROOT.glob("tfrs_croloss/commands/service/*.py")]
    assert len(paths) > 4
    for path in paths:
        for name in imports(path):
            is_ours = name.startswith("tfrs_croloss.commands.service")
            is_ours = is_ours or name == "tfrs_croloss._saved_models"
            assert is_ours or not name.startswith("tfrs_croloss"), path


@pytest.mark.parametrize("page", ["ARCHITECTURE.md", "CONTRIBUTING.md"])
def test_paths_and_names_exist(page):
    folders = ("tfrs_croloss", "pipelines")
    code = "".join(path.read_text() for name in folders for path in ROOT.glob(f"{name}/**/*.py"))
    words = set(re.findall(r"`([^`\s]+)`", (ROOT / page).read_text()))
    paths = {word for word in words if re.search(r"/$|\.(py|md|yaml|toml|lock)$", word)}
    names = {word for word in words - paths if re.fullmatch(r"[A-Z]\w*[a-z]\w*(\.\w+)?", word)}
    assert len(paths) > 5
    for path in paths - {"dist/"}:
        assert any((folder / path).exists() for folder in (ROOT, ROOT / "tfrs_croloss")), path
    for name in names:
        for part in name.split("."):
            assert re.search(rf"\b(class|def) {part}\b|^{part} = ", code, re.MULTILINE), name
