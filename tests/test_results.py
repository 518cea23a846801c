"""docs/results.md against the numbers in docs/results/: no figure without its JSON."""

import json
import re
from pathlib import Path

import pytest
import yaml

from pipelines.comparison import Comparison

DOCS = Path(__file__).parent.parent / "docs"
PAGE = (DOCS / "results.md").read_text()
NUMBERS = sorted((DOCS / "results").glob("*.json"))
by_name = pytest.mark.parametrize("path", NUMBERS, ids=lambda path: path.stem)


def section_of(name):
    """What follows the command of a comparison, to the next heading."""
    _, found, after = PAGE.partition(f"make results-{name} ")
    assert found, f"docs/results.md does not say how to make results/{name}.json"
    return re.split(r"^##", after, maxsplit=1, flags=re.MULTILINE)[0]


@by_name
def test_the_page_has_the_numbers_of_the_file(path):
    losses = json.loads(path.read_text())["losses"]
    head, _, *rows = (
        [cell.strip(" *") for cell in line.split("|")[1:-1]]
        for line in section_of(path.stem).splitlines()
        if line.startswith("|")
    )
    seen = set()
    for name, *cells in rows:
        if name in losses:
            of = losses[name]
            for metric, cell in zip(head[1:], cells, strict=True):
                mean, deviation = (of[x][metric.lower()] for x in ("mean", "deviation"))
                assert cell == f"{mean:.4f} ± {deviation:.4f}".replace("0.", "."), (name, metric)
            seen.add(name)
    assert seen == losses.keys()


@by_name
def test_the_numbers_are_of_the_settings_beside_them(path):
    content = json.loads(path.read_text())
    settings = yaml.safe_load(path.with_suffix(".yaml").read_text())
    assert {name: of["options"] for name, of in content["losses"].items()} == settings["losses"]
    assert settings["common"].items() <= content["common"].items()
    assert not content["failures"]


@pytest.mark.parametrize("path", sorted((DOCS / "results").glob("*.yaml")), ids=lambda p: p.stem)
def test_the_settings_are_those_of_a_comparison(path, tmp_path):
    common = yaml.safe_load(path.read_text())["common"]
    for file in common.keys() & {"train", "test"}:
        (tmp_path / common[file]).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / common[file]).touch()
    found = Comparison.read(path, tmp_path / "runs", data=tmp_path)
    assert all(config.seed in range(3) for config in found.all_configs)
    if "softmax" in found.own:
        assert found.baseline == "softmax"
    assert found.baseline != found.ours or len(found.own) == 1
