"""What a plot makes room for; what it shows was looked at."""

import struct

import pytest

from tfrs_croloss.commands.reports import plots
from tfrs_croloss.commands.reports.plots import plot_alpha, plot_training


@pytest.mark.parametrize(("sizes", "columns", "rows"), [((5, 20), 2, 1), ((5, 10, 20, 50), 3, 2)])
def test_three_panels_at_most_stand_abreast(sizes, columns, rows, tmp_path):
    names = ["softmax", "half", "one"]
    results = {name: {f"recall@{n}": [0.1, 0.3] for n in sizes} for name in names}
    plot_alpha([{0.5: "half", 1.0: "one"}], results, tmp_path / "alpha.png", "softmax")
    png = (tmp_path / "alpha.png").read_bytes()
    assert png.startswith(b"\x89PNG")
    width, height = struct.unpack(">II", png[16:24])
    assert (width, height) == (columns * 675, rows * 600)


@pytest.mark.parametrize("epochs", [(3, 3), (3, 5)])
def test_thin_lines_are_explained_where_there_are_some(epochs, tmp_path, monkeypatch):
    notes = []
    monkeypatch.setattr(plots, "_note", lambda panels, text: notes.append(text))
    seeds = [
        [{"epoch": i, "seconds": i, "recall@5": i / 9} for i in range(1, last + 1)]
        for last in epochs
    ]
    plot_training({"softmax": seeds}, "recall@5", tmp_path / "training.png")
    assert ("thin lines" in notes[0]) == (len(set(epochs)) > 1)


def test_lines_look_different():
    looks = plots._looks(range(18))
    assert len({(look["color"], look["marker"]) for look in looks.values()}) == 18
    assert len({look["color"] for look in looks.values()}) == 18
