"""The notebooks run from top to bottom, and are kept with what they gave."""

import os
import re
import resource

import nbformat
import pytest

from notebooks.execute import NEEDS, execute, notebooks
from tests.pages import ROOT

BACKEND = os.environ.get("KERAS_BACKEND", "tensorflow")
# Three minutes of two cores, in seconds of a core: what other work the machine has does not count.
LIMIT = 360

each = pytest.mark.parametrize("path", notebooks(), ids=lambda path: path.stem)


def code(path):
    return [cell for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == "code"]


def texts(path):
    """All that a reader reads: the cells, and what they printed."""
    for cell in nbformat.read(path, as_version=4).cells:
        yield cell.source
        for output in cell.get("outputs", []):
            yield output.get("text", "")
            yield from (text for kind, text in output.get("data", {}).items() if "text" in kind)


@pytest.mark.slow
@each
def test_it_runs(path):
    if path not in notebooks(BACKEND):
        pytest.skip(f"not for {BACKEND}, which Keras runs on here")
    if path.name in NEEDS and not NEEDS[path.name].exists():
        pytest.skip("needs .venv-serving: make test-serving")
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    notebook, _ = execute(path)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    seconds = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    assert 1 < seconds < LIMIT
    nbformat.validate(notebook)


@each
def test_it_is_kept_as_it_ran(path):
    cells = code(path)
    assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1))
    found = [output for cell in cells for output in cell.outputs]
    assert not [output for output in found if output.output_type == "error"]
    assert not [output for output in found if output.get("name") == "stderr"]
    assert [output for output in found if "image/png" in output.get("data", {})]


@each
def test_its_text_is_text(path):
    """A line of `# …` is a heading: not that of a cell kept as comments of a script."""
    for cell in nbformat.read(path, as_version=4).cells:
        lines = cell.source.splitlines()
        if cell.cell_type == "markdown" and len(lines) > 1:
            assert not all(re.match("#( |$)", line) for line in lines)


@each
def test_it_names_no_place_of_a_machine(path):
    text = "\n".join(texts(path))
    assert str(ROOT) not in text
    assert not re.search(r"(?<![\w.<])/(home|root|tmp|usr|opt|work|Users)/", text)


@each
def test_the_readme_names_it(path):
    assert f"notebooks/{path.name}" in (ROOT / "README.md").read_text()


def test_there_are_some():
    assert len(notebooks()) == len(notebooks("tensorflow")) + len(notebooks("jax"))
    assert notebooks("tensorflow")
