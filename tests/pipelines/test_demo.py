"""The demo from end to end, on the real data, with a budget of one epoch."""

import json

import pytest
import yaml

from tfrs_croloss.commands import demo as demo_module
from tfrs_croloss.commands.cli import main


@pytest.fixture
def folder(tmp_path, monkeypatch):
    settings = yaml.safe_load(demo_module.SETTINGS.read_text())
    settings["common"] |= {"epochs": 1, "dim": 8, "batch_size": 1024}
    short = tmp_path / "short.yaml"
    short.write_text(yaml.safe_dump(settings, sort_keys=False))
    monkeypatch.setattr(demo_module, "SETTINGS", short)
    return tmp_path / "demo"


def test_the_demo(folder, capfd):
    command = ["demo", "--runs", str(folder.parent), "--seeds", "2"]
    main(command)
    out = capfd.readouterr().out
    # The counts of the 671 users × 9,066 movies.
    words = [line.split() for line in out.splitlines()]
    assert ["users", "671"] in words
    assert ["train", "interactions", "69,970"] in words
    assert ["test", "interactions", "20,003"] in words
    results = json.loads((folder / "results.json").read_text())
    assert list(results["losses"]) == ["softmax", "CROLoss", "MultiMarginLoss"]
    for result in (of["test"] for of in results["losses"].values()):
        for n in (10, 50, 100):
            for metric in (f"recall@{n}", f"ndcg@{n}"):
                assert len(result["exact"][metric]) == len(result["scann"][metric]) == 2
        exact, scann = (sum(result[kind]["recall@100"]) for kind in ("exact", "scann"))
        assert scann == pytest.approx(exact, rel=0.01)
    assert (folder / "recall.png").read_bytes().startswith(b"\x89PNG")
    for n in (10, 50, 100):
        assert f"the softmax at recall@{n}" in out
    assert "±" in out
    # Titles for users 1, 2 and 3, beside what they watched last.
    for user in (1, 2, 3):
        assert f"User {user}" in out
    assert "has seen, last first" in out
    assert "What next" in out
    # What is done is not done again.
    written = (folder / "CROLoss-0" / "metrics.json").stat().st_mtime_ns
    main(command)
    assert (folder / "CROLoss-0" / "metrics.json").stat().st_mtime_ns == written
