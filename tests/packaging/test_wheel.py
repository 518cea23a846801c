"""The wheel: the library with its commands, and nothing else."""

import subprocess
import sys
import zipfile

import pytest

from tests.packaging.installed import run, use
from tests.packaging.wheel import build_wheel
from tests.pages import ROOT


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    return build_wheel(tmp_path_factory.mktemp("wheel"))


@pytest.fixture(scope="module")
def names(wheel):
    return set(zipfile.ZipFile(wheel).namelist())


def test_it_has_the_library_and_nothing_else(names):
    library = {
        str(path.relative_to(ROOT))
        for path in ROOT.glob("tfrs_croloss/**/*")
        if path.suffix in (".py", ".yaml") or path.name == "py.typed"
    }
    assert len(library) > 50
    assert {name for name in names if ".dist-info/" not in name} == {
        *library,
        "tfrs_croloss_cli.py",
    }
    assert {name for name in library if name.endswith(".yaml")} == {
        "tfrs_croloss/commands/demo.yaml",
        "tfrs_croloss/commands/tuning/spaces.yaml",
    }


def test_it_has_its_licence(names):
    licences = {name.rpartition("/")[2] for name in names if ".dist-info/licenses/" in name}
    assert licences == {"LICENSE", "NOTICE"}


@pytest.mark.slow
def test_its_command_works_outside_the_clone(wheel, tmp_path):
    """Beside the packages of this environment, which the commands need."""
    site, folder = tmp_path / "site", tmp_path / "folder"
    folder.mkdir()
    install = [sys.executable, "-m", "pip", "install", "--quiet", "--no-index", "--no-deps"]
    subprocess.run([*install, "--target", str(site), str(wheel)], check=True)
    assert not (site / "pipelines").exists()
    command, path = str(site / "bin" / "tfrs-croloss"), {"PYTHONPATH": str(site)}
    where = [sys.executable, "-c", "import tfrs_croloss.commands as it; print(it.__file__)"]
    assert run(where, folder, **path).startswith(str(site))
    said = use(command, folder, **path)
    assert "User u1" in said
    assert "User u2" in said
    # A process of its own for each loss, which is the installed command, too.
    (folder / "losses.yaml").write_text(
        "common: {train: ratings.csv, user: who, item: what, time: when, epochs: 1, top_n: [5]}\n"
        "losses: {one: {}}\n"
    )
    compared = run([command, "compare", "--config", "losses.yaml", "--seeds", "1"], folder, **path)
    assert "Recall@5" in compared
