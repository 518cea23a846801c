import subprocess
import sys

import numpy as np
import pytest

from tfrs_croloss.index import ExactIndex, build_index


def test_kinds_and_options():
    index = build_index(np.eye(3))
    assert type(index) is ExactIndex
    assert build_index(np.eye(3), "exact", block_bytes=7).block_bytes == 7


def test_scann():
    pytest.importorskip("scann")
    index = build_index(np.eye(3), kind="scann", block_size=7)
    assert (type(index).__name__, index.block_size) == ("ScaNNIndex", 7)


def test_unknown_kind():
    with pytest.raises(ValueError, match=r"`kind` must be one of exact, scann. Received: 'faiss'"):
        build_index(np.eye(3), kind="faiss")


def test_importing_needs_neither_scann_nor_tensorflow():
    # In a fresh process: this one may have loaded them for other tests.
    code = (
        "import sys; sys.modules['scann'] = sys.modules['tensorflow_recommenders'] = None\n"
        "before = 'tensorflow' in sys.modules\n"
        "import tfrs_croloss.losses; before = 'tensorflow' in sys.modules\n"
        "import tfrs_croloss.evaluation, tfrs_croloss.index\n"
        "assert ('tensorflow' in sys.modules) == before"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
