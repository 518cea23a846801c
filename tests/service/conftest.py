"""The tests ask a server in `.venv-serving`, which `make test-serving` makes."""

import pytest

from tests.service.server import PYTHON


@pytest.fixture(autouse=True, scope="session")
def _serving_environment():
    if not PYTHON.exists():
        pytest.skip("needs .venv-serving: make test-serving")
