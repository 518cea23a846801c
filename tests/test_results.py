"""The tables of results against the numbers in docs/: no table without its JSON."""

import json
import lzma
import re
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml

from tests.pages import make
from tfrs_croloss.commands.comparison.file import Comparison
from tfrs_croloss.commands.experiment.classes import ROLES, canonical
from tfrs_croloss.commands.training.trainer import train

DOCS = Path(__file__).parent.parent / "docs"
README = (DOCS.parent / "README.md").read_text()
SUMMARY = (DOCS / "results.md").read_text()
TABLES = "".join((DOCS / f"results-{page}.md").read_text() for page in ("splits", "claims"))
NUMBERS = sorted((DOCS / "results").glob("*.json"))
by_name = pytest.mark.parametrize("path", NUMBERS, ids=lambda path: path.stem)


def with_paths(options):
    """Options of a file of settings as results have them: classes by their full paths."""
    return {name: canonical(name, x) if name in ROLES else x for name, x in options.items()}


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
    before, block, *_ = SUMMARY.split("```")
    commands = iter(re.findall(r"make results-(\S+)", block))
    _, _, *rows = table_of(before)
    for split, metric, best, _, softmax, ours, gap in rows:
        if split:
            content = json.loads((DOCS / "results" / f"{next(commands)}.json").read_text())
        of = content["losses"][content["ours"]]
        assert ours == shown(of, metric), split
        # With decays or both ways, too: the best of them.
        softmaxes = [x for name, x in content["losses"].items() if name.startswith("softmax")]
        best_softmax = max((shown(x, metric) for x in softmaxes), default="")
        assert softmax == best_softmax, split
        assert bool(gap) == (best != "none")
        if gap:
            beyond = round(of["mean"][metric.lower()], 4) - float(best.split()[0])
            assert gap == f"{beyond:+.4f}".replace("0.", "."), (split, metric)
    assert not list(commands)


def test_the_readme_has_the_rows_of_the_summary():
    def bare(cell):
        return cell.replace("Amazon ", "").replace(",", "")

    (text,) = [part for part in README.split("\n\n") if part.startswith("| split ")]
    _, _, *rows = table_of(text)
    _, _, *all_rows = table_of(SUMMARY.split("```")[0])
    first = [row for row in all_rows if row[0]]
    assert all(metric == "Recall@20" for _, metric, *_ in first)
    for cells, (split, _, best, published, own, ours, _) in zip(rows, first, strict=True):
        softmax = own if published == "none" else published
        name = re.search(r"\[(.*)\]", split)[1]
        assert [bare(cells[0]), *cells[1:]] == [name, softmax, best, ours], name


def test_the_readme_has_the_numbers_of_the_demo():
    content = json.loads((DOCS / "demo.json").read_text())
    (text,) = [part for part in README.split("\n\n") if part.startswith("| loss ")]
    head, _, *rows = table_of(text)
    assert [name for name, *_ in rows] == [*content["losses"]]
    for name, *cells in rows:
        of = content["losses"][name]
        assert cells == [shown(of, metric) for metric in head[1:]], name
        exact, scann = (of["test"][search] for search in ("exact", "scann"))
        for metric in exact:
            assert np.abs(np.subtract(exact[metric], scann[metric])).max() < 0.0002, (name, metric)
    gains = re.search(
        r"CROLoss gains (\S+) %\s+of\s+Recall@10,\s+(\S+) % at\s+50 and\s+(\S+) %", README
    )
    significance = content["losses"]["CROLoss"]["significance"]
    for shown_gain, n in zip(gains.groups(), content["top_n"], strict=True):
        relative = 100 * significance[f"recall@{n}"]["relative"]
        assert float(shown_gain) == pytest.approx(relative, abs=0.051)
    settings = yaml.safe_load((DOCS.parent / "tfrs_croloss" / "commands" / "demo.yaml").read_text())
    options = {name: of["options"] for name, of in content["losses"].items()}
    assert options == {name: with_paths(own) for name, own in settings["losses"].items()}


def recalls(name, loss, n):
    content = json.loads((DOCS / "results" / f"{name}.json").read_text())
    return content["losses"][loss]["mean"][f"recall@{n}"]


def test_the_readme_says_what_was_found():
    text = " ".join(README.split())

    def says(pattern):
        return [float(x) for x in re.search(pattern, text).groups()]

    def gains(name, loss, *sizes, on="softmax", of=None):
        """Of a loss of a comparison on one of the same, or of another."""
        of = of or name
        return [100 * (recalls(name, loss, n) / recalls(of, on, n) - 1) for n in sizes]

    beauty = gains("beauty-claims", "plain softplus", 50, 100, 200)
    swap = r"(\S+) to (\S+) % more of Recall@50 to 200 than the softmax"
    assert says(swap) == pytest.approx([min(beauty), max(beauty)], abs=0.051)
    (behind,) = gains("health-claims", "plain softplus", 200)
    assert says(r"level up to 100 and (\S+) % behind at 200") == pytest.approx([-behind], abs=0.051)
    own = gains("health", "CROLoss", 20, 100, 200)
    best = gains("health", "CROLoss", 20, 100, 200, of="health-claims")
    small = r"(\S+) to (\S+) % more of Recall@20 than the softmax on Amazon Health"
    assert says(small) == pytest.approx([best[0], own[0]], abs=0.51)
    assert abs(best[1]) < 0.3
    assert says(r"at 100 and (\S+) % less at 200") == pytest.approx([-best[2]], abs=0.051)
    (found,) = gains("electronic", "CROLoss", 20, on="softmax with the same decays")
    assert says(r"(\S+) % on Electronics\.") == pytest.approx([found], abs=0.51)


@pytest.mark.parametrize(
    ("name", "said", "of_each_n"),
    [
        (
            "beauty-claims",
            r"on Beauty (\S+) is best at 20 and 50, (\S+) at 100 and 200, (\S+) at 500",
            (0, 0, 1, 1, 2),
        ),
        ("sports-claims", r"on Sports (\S+) to 200 and (\d+) at 500", (0, 0, 0, 0, 1)),
    ],
)
def test_the_readme_names_the_best_alpha(name, said, of_each_n):
    content = json.loads((DOCS / "results" / f"{name}.json").read_text())
    group = {
        of["options"]["loss"]["init_args"].get("alpha", 1.0): of["mean"]
        for loss, of in content["losses"].items()
        if loss.startswith("Lambda softplus, α")
    }
    if 1.0 not in group:
        group[1.0] = content["losses"]["Lambda softplus"]["mean"]
    values = [float(x) for x in re.search(said, " ".join(README.split())).groups()]
    for n, position in zip(content["top_n"], of_each_n, strict=True):
        assert max(group, key=lambda alpha: group[alpha][f"recall@{n}"]) == values[position], n


def test_the_readme_says_what_notebook_1_found():
    text = " ".join(README.split())
    (said,) = re.findall(r"either loss has (\d+) % more Recall@100", text)
    (ahead,) = re.findall(r"is then (\d+) % ahead at N = 10, (\d+) % at 50, and level at 100", text)
    notebook = json.loads((DOCS.parent / "notebooks" / "1-swap-the-loss.ipynb").read_text())
    outputs = [output for cell in notebook["cells"] for output in cell.get("outputs", [])]
    tables = ["".join(output.get("data", {}).get("text/plain", "")) for output in outputs]
    (table,) = [text for text in tables if "log-Q" in text]
    rows = {
        line[:18].strip(): [float(x) for x in re.findall(r"(0\.\d+) ±", line)]
        for line in table.splitlines()[1:]
    }
    softmax, corrected, ours = (
        rows[name] for name in ("softmax", "softmax, log-Q", "CROLoss, weighed")
    )
    for weighed in (corrected, ours):
        assert 100 * (weighed[-1] / softmax[-1] - 1) == pytest.approx(float(said), abs=0.51)
    lead = [100 * (a / b - 1) for a, b in zip(ours, corrected, strict=True)]
    assert lead == pytest.approx([*map(float, ahead), 0], abs=0.51)


def percents(cell):
    """Those of a cell, and how far rounding may have moved them."""
    numbers = re.findall(r"-?\d*\.?\d+", cell.replace("−", "-"))
    return [float(x) for x in numbers], 0.051 if "." in cell else 0.51


@pytest.mark.parametrize("name", ["health", "electronic", "electronic-temporal"])
def test_gains_are_those_of_the_bootstrap(name):
    content = json.loads((DOCS / "results" / f"{name}.json").read_text())
    head, _, *rows = table_of(section_of(name))
    (gains,) = [cells for first, *cells in rows if first.startswith("gain on the softmax")]
    significance = content["losses"][content["ours"]]["significance"]
    for metric, cell in zip(head[1:], gains, strict=True):
        found, rounding = percents(cell.replace(" %", ""))
        of = significance[metric.lower()]
        expected = [100 * x for x in (of["relative"], *of["relative_interval"])]
        assert found == pytest.approx(expected, abs=rounding), metric


def gain(recall, of, on):
    return 100 * (recall[of] / recall[on] - 1)


def test_what_mml_gains_is_of_the_files():
    _, found, after = TABLES.partition("### What it says")
    assert found
    _, _, *rows = table_of(after.split("\n\n- ")[0])
    places = [(split, n) for split in ("gowalla", "yelp2018") for n in (10, 100, 800)]
    for place, cells in zip(places, zip(*(row[1:] for row in rows), strict=True), strict=True):
        path = DOCS / "results" / "mml-{}-{}.json".format(*place)
        losses = json.loads(path.read_text())["losses"]
        recall = {name: of["mean"]["recall@20"] for name, of in losses.items()}
        tuned = "CCL, tuned" if "CCL, tuned" in recall else "CCL"
        best = max((name for name in recall if name.startswith("MML")), key=recall.get)
        interval = losses[best]["significance"]["recall@20"]["relative_interval"]
        author, heavy, one_margin, last = (percents(cell.replace(" %", ""))[0] for cell in cells)
        assert author == pytest.approx([gain(recall, "MML", "CCL")], abs=0.051), place
        assert heavy == pytest.approx([gain(recall, "CCL, weight of MML", "CCL")], abs=0.051), place
        assert (one_margin or [0]) == pytest.approx([gain(recall, tuned, "CCL")], abs=0.051), place
        expected = [gain(recall, best, tuned), *(100 * x for x in interval)]
        assert last == pytest.approx(expected, abs=0.051), place


@by_name
def test_the_numbers_are_of_the_settings_beside_them(path):
    content = json.loads(path.read_text())
    settings = yaml.safe_load(path.with_suffix(".yaml").read_text())
    options = {name: of["options"] for name, of in content["losses"].items()}
    assert options == {name: with_paths(own) for name, own in settings["losses"].items()}
    assert with_paths(settings["common"]).items() <= content["common"].items()
    assert not content["failures"]


def write_split(folder, common):
    """Files of the names and the form that a comparison's settings want, with little in them."""
    rng = np.random.default_rng(0)
    items = np.stack([rng.permutation(80)[:20] for _ in range(50)])
    for file, part in (("train", items[:, :16]), ("test", items[:, 16:])):
        if file not in common:
            continue
        path = folder / common[file]
        path.parent.mkdir(parents=True, exist_ok=True)
        if "user" in common:
            users = np.repeat(np.arange(50), part.shape[1])
            ids = {common["user"]: users, common["item"]: part.ravel()}
            pd.DataFrame(ids).to_csv(path, sep="\t", index=False)
        else:
            rows = (" ".join(map(str, [user, *row])) for user, row in enumerate(part))
            path.write_bytes(lzma.compress("\n".join(rows).encode()))


@pytest.mark.slow
@pytest.mark.parametrize("path", sorted((DOCS / "results").glob("*.yaml")), ids=lambda p: p.stem)
def test_the_settings_are_those_of_a_comparison(path, tmp_path):
    """What `make results-NAME` reads, on a small split of its form, and an epoch of our loss."""
    write_split(tmp_path, yaml.safe_load(path.read_text())["common"])
    found = Comparison.read(path, tmp_path / "runs", data=tmp_path)
    assert all(config.seed in range(3) for config in found.all_configs)
    if "softmax" in found.own:
        assert found.baseline == "softmax"
    assert found.baseline != found.ours or len(found.own) == 1
    (ours,) = (config for config in found.all_configs if config.name == f"{found.ours}-0")
    assert train(replace(ours, epochs=1, validate_every=1)).is_complete


@pytest.mark.slow
def test_the_command_of_a_table_needs_the_data_alone(tmp_path):
    """Health's, on a small split of its kind: from the folder to the line with the result."""
    content = yaml.safe_load((DOCS / "results" / "health.yaml").read_text())
    write_split(tmp_path, content["common"])
    # .venv may be another than the one that the tests run from.
    here = ["--old-file=install", f"BIN={Path(sys.executable).parent}"]
    chosen = [f"DATA={tmp_path}", f"ARGS=--seeds 1 --runs {tmp_path / 'runs'}"]
    done = make(*here, "results-health", *chosen)
    assert done.returncode == 0, done.stderr
    results = json.loads((tmp_path / "runs" / "results-health" / "results.json").read_text())
    assert results["losses"].keys() == content["losses"].keys()
    mean = results["losses"][content["ours"]]["mean"]
    expected = f"Recall@20 {mean['recall@20']:.4f}  NDCG@20 {mean['ndcg@20']:.4f}  (1 seed)"
    assert done.stdout.splitlines()[-1] == expected
