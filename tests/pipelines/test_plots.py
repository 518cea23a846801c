"""What a plot makes room for; what it shows was looked at."""

import struct

import pytest

from pipelines.plots import plot_alpha


@pytest.mark.parametrize(("sizes", "columns", "rows"), [((5, 20), 2, 1), ((5, 10, 20, 50), 3, 2)])
def test_three_panels_at_most_stand_abreast(sizes, columns, rows, tmp_path):
    names = ["softmax", "half", "one"]
    results = {name: {f"recall@{n}": [0.1, 0.3] for n in sizes} for name in names}
    plot_alpha([{0.5: "half", 1.0: "one"}], results, tmp_path / "alpha.png", "softmax")
    png = (tmp_path / "alpha.png").read_bytes()
    assert png.startswith(b"\x89PNG")
    width, height = struct.unpack(">II", png[16:24])
    assert (width, height) == (columns * 675, rows * 600)
