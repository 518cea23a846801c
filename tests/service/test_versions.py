"""Versions that come and go while a server answers."""

import shutil
import threading

import pytest

from tests.service.exports import K, data_of, exact, model_of, users_of
from tests.service.server import serving
from tfrs_croloss.serving import export_model

POLL = ("--poll_seconds", "0.1")


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Exports of two models, and what each answers."""
    folder, data = tmp_path_factory.mktemp("made"), data_of("integer")
    models = [model_of(data) for _ in range(2)]
    for version, model in enumerate(models, 1):
        export_model(model, data, folder / "model", k=K, version=version)
    answers = [exact(data, m, users_of(data, m), data.train)[0].tolist() for m in models]
    assert answers[0] != answers[1]
    return folder / "model", data.users.ids.tolist(), answers


def items_of(server, users):
    return server.ask({"inputs": users})["outputs"]["item_ids"]


def test_a_version_takes_over_under_load_and_no_request_fails(made, tmp_path):
    source, users, (old, new) = made
    shutil.copytree(source / "1", tmp_path / "model" / "1")
    stop, wrong, answered = threading.Event(), [], [[] for _ in range(4)]

    def load(own):
        try:
            while not stop.is_set():
                own.append(items_of(server, users))
        except Exception as error:
            wrong.append(error)

    with serving(tmp_path / "model", tmp_path / "log", *POLL) as server:
        clients = [threading.Thread(target=load, args=(own,)) for own in answered]
        for client in clients:
            client.start()
        # In one move, as an export does it.
        shutil.copytree(source / "2", tmp_path / "model" / ".2")
        (tmp_path / "model" / ".2").rename(tmp_path / "model" / "2")
        server.wait_for("version 2 serves")
        assert items_of(server, users) == new
        stop.set()
        for client in clients:
            client.join()
    assert not wrong
    for own in answered:
        # First only the old, then only the new.
        changed = own.index(new) if new in own else len(own)
        assert changed > 0
        assert own == [old] * changed + [new] * (len(own) - changed)


def test_a_version_that_does_not_load_changes_nothing(made, tmp_path):
    source, users, (old, new) = made
    shutil.copytree(source / "1", tmp_path / "model" / "1")
    with serving(tmp_path / "model", tmp_path / "log", *POLL) as server:
        (tmp_path / "model" / "2").mkdir()
        server.wait_for("version 2 does not load")
        assert items_of(server, users) == old
        # Copied bit by bit: what failed is tried again when there is more of it.
        shutil.copy(source / "2" / "saved_model.pb", tmp_path / "model" / "2")
        server.wait_for("version 2 does not load", times=2)
        assert items_of(server, users) == old
        shutil.copytree(source / "2", tmp_path / "model" / "2", dirs_exist_ok=True)
        server.wait_for("version 2 serves")
        assert items_of(server, users) == new
        # Garbage, and less than there was.
        (tmp_path / "3").mkdir()
        (tmp_path / "3" / "saved_model.pb").write_bytes(b"\x00garbage")
        shutil.copytree(source / "1", tmp_path / "4")
        (data,) = (tmp_path / "4" / "variables").glob("*.data*")
        data.write_bytes(data.read_bytes()[:1000])
        for version in ("3", "4"):
            (tmp_path / version).rename(tmp_path / "model" / version)
            server.wait_for(f"version {version} does not load")
        assert items_of(server, users) == new
        # Taking away the one that serves brings the one before it back.
        (tmp_path / "model" / "2").rename(tmp_path / "2")
        server.wait_for("version 1 serves", times=2)
        assert items_of(server, users) == old
        (tmp_path / "2").rename(tmp_path / "model" / "5")
        server.wait_for("version 5 serves")
        assert items_of(server, users) == new
        # Nothing is tried again that has not changed.
        for version in ("3", "4"):
            assert server.log().count(f"version {version} does not load") == 1
        # Without any version there is still the one in memory.
        (tmp_path / "model").rename(tmp_path / "elsewhere")
        assert items_of(server, users) == new


def test_the_version_that_serves_is_damaged(made, tmp_path):
    source, users, (old, new) = made
    shutil.copytree(source, tmp_path / "model")
    with serving(tmp_path / "model", tmp_path / "log", *POLL) as server:
        (tmp_path / "model" / "2" / "saved_model.pb").write_bytes(b"")
        server.wait_for("version 2 does not load")
        # A look later it still answers from memory.
        (tmp_path / "model" / "3").mkdir()
        server.wait_for("version 3 does not load")
        assert items_of(server, users) == new
        assert server.log().count("version 2 does not load") == 1
        assert "version 1 serves" not in server.log()
        # Without it, the one before it is the newest.
        shutil.rmtree(tmp_path / "model" / "2")
        server.wait_for("version 1 serves")
        assert items_of(server, users) == old


def test_a_start_with_a_broken_newest_version(made, tmp_path):
    source, users, (old, _) = made
    shutil.copytree(source / "1", tmp_path / "model" / "1")
    (tmp_path / "model" / "2").mkdir()
    with serving(tmp_path / "model", tmp_path / "log", *POLL) as server:
        assert "version 2 does not load" in server.log()
        assert items_of(server, users) == old
        # A version that is replaced is loaded again.
        export = tmp_path / "export"
        shutil.copytree(source / "2", export)
        (tmp_path / "model" / "1").rename(tmp_path / "replaced")
        export.rename(tmp_path / "model" / "1")
        server.wait_for("version 1 serves", times=2)
        assert items_of(server, users) != old
