"""The pages of results against the numbers in docs/results/: no figure without its JSON."""

import json
import re
from pathlib import Path

import pytest
import yaml

from pipelines.comparison import Comparison

DOCS = Path(__file__).parent.parent / "docs"
SUMMARY = (DOCS / "results.md").read_text()
TABLES = "".join((DOCS / f"results-{page}.md").read_text() for page in ("splits", "claims"))
NUMBERS = sorted((DOCS / "results").glob("*.json"))
by_name = pytest.mark.parametrize("path", NUMBERS, ids=lambda path: path.stem)


def section_of(name):
    """What follows the command of a comparison, to the next heading."""
    _, found, after = TABLES.partition(f"make results-{name} ")
    assert found, f"neither page of tables says how to make results/{name}.json"
    return re.split(r"^##", after, maxsplit=1, flags=re.MULTILINE)[0]


def table_of(text):
    return [
        [cell.strip(" *") for cell in line.split("|")[1:-1]]
        for line in text.splitlines()
        if line.startswith("|")
    ]


def shown(of, metric):
    mean, deviation = (of[x][metric.lower()] for x in ("mean", "deviation"))
    return f"{mean:.4f} ± {deviation:.4f}".replace("0.", ".")


@by_name
def test_the_page_has_the_numbers_of_the_file(path):
    losses = json.loads(path.read_text())["losses"]
    head, _, *rows = table_of(section_of(path.stem))
    seen = set()
    for name, *cells in rows:
        if name in losses:
            expected = [shown(losses[name], metric) for metric in head[1:]]
            assert cells == expected, name
            seen.add(name)
    assert seen == losses.keys()


def test_the_summary_has_the_numbers_of_the_files():
    commands = iter(re.findall(r"make results-(\S+)", SUMMARY))
    _, _, *rows = table_of(SUMMARY.split("```")[0])
    for split, metric, best, _, softmax, ours, gap in rows:
        if split:
            content = json.loads((DOCS / "results" / f"{next(commands)}.json").read_text())
        losses = dict(content["losses"])
        of = losses.pop(content["ours"])
        assert ours == shown(of, metric), split
        assert softmax in {shown(other, metric) for other in losses.values()} | {""}, split
        if gap:
            beyond = round(of["mean"][metric.lower()], 4) - float(best.split()[0])
            assert gap == f"{beyond:+.4f}".replace("0.", "."), (split, metric)
    assert not list(commands)


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
