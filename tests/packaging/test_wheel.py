"""The wheel: the library and nothing else."""

import zipfile

import pytest

from tests.packaging.wheel import build_wheel
from tests.pages import ROOT


@pytest.fixture(scope="module")
def names(tmp_path_factory):
    wheel = build_wheel(tmp_path_factory.mktemp("wheel"))
    return set(zipfile.ZipFile(wheel).namelist())


def test_it_has_the_library_and_nothing_else(names):
    library = {
        str(path.relative_to(ROOT))
        for path in ROOT.glob("tfrs_croloss/**/*")
        if path.suffix == ".py" or path.name == "py.typed"
    }
    assert len(library) > 50
    assert {name for name in names if ".dist-info/" not in name} == library


def test_it_has_its_licence(names):
    licences = {name.rpartition("/")[2] for name in names if ".dist-info/licenses/" in name}
    assert licences == {"LICENSE", "NOTICE"}
