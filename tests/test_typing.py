"""That mypy holds whoever extends the package to the signatures of its extension points."""

import re

import pytest

from tests.pages import ROOT

api = pytest.importorskip("mypy.api", reason="the environment of the linters has it")

IMPORTS = """
from typing import Any

import numpy as np

from tfrs_croloss import CROLoss, RetrievalLoss
from tfrs_croloss.evaluation import evaluate_lists
from tfrs_croloss.index import Index, Neighbors
from tfrs_croloss.losses import Aggregate, Channel, Hinge, Kernel, LogKernel, RankWeight, Row
from tfrs_croloss.losses import FunctionWeight, Surrogate
from tfrs_croloss.retrieval import Negatives, Retrieval, RetrievalModel, UniformNegatives
from tfrs_croloss.tuning import Assignment, RandomSearch
"""

RIGHT = """
class OwnKernel(Kernel):
    def __call__(self, x: Any) -> Any:
        return x

    def derivative(self, x: Any) -> Any:
        return 1

class OwnLogKernel(LogKernel):
    def log(self, x: Any) -> Any:
        return x

    def log_derivative(self, x: Any) -> float:
        return 1.0

class OwnSurrogate(Surrogate):
    def log_surrogate(self, x: Any) -> Any:
        return x

    def log_surrogate_derivative(self, x: Any) -> Any:
        return 1

class OwnRankWeight(RankWeight):
    def density(self, log_rank: Any, log_size: Any) -> Any:
        return log_rank

    def integral(self, log_rank: Any, log_size: Any) -> Any:
        return log_rank

class OwnLoss(RetrievalLoss):
    def compare(self, row: Row) -> Channel:
        return Channel(OwnKernel())

    def aggregate(self, totals: tuple, row: Row) -> Any:
        return totals[0]

class OwnNegatives(Negatives):
    def __call__(self, step: Any) -> Any:
        return step

    def probability(self, items: Any) -> Any:
        return items

    def get_config(self) -> dict[str, Any]:
        return {}

class OwnIndex(Index):
    def _search(
        self, queries: np.ndarray, k: int, exclude: Any, allowed: np.ndarray | None
    ) -> Neighbors:
        return Neighbors(queries, queries)

class OwnTower:
    variables: tuple[Any, ...] = ()

    def __call__(self, features: Any, training: bool | None = None) -> Any:
        return features

def train(assignment: Assignment) -> float:
    return 0.0

OwnLogKernel(), OwnSurrogate(), OwnLoss(), OwnIndex([[1.0]])
CROLoss(OwnKernel(), rank_weight=OwnRankWeight())
CROLoss(lambda x: x, lambda_kernel="step", rank_weight=(lambda r, n: 1 / r, lambda r, n: r))
RetrievalModel(OwnTower(), OwnTower(), 3, Retrieval(), [OwnNegatives(), UniformNegatives(3, 1)])
evaluate_lists(lambda users, n: np.zeros((len(users), n), int), [])
RandomSearch(train, {}, "folder")
"""

# Each is refused, at the line that ends in a mark.
WRONG = {
    "a kernel of two": """
class Wrong(Kernel):
    def __call__(self, x: Any, y: Any) -> Any:  # !
        return x

    def derivative(self, x: Any) -> Any:
        return x
""",
    "a kernel without its derivative": """
class Wrong(Kernel):
    def __call__(self, x: Any) -> Any:
        return x

Wrong()  # !
""",
    "the logarithm of nothing": """
class Wrong(LogKernel):
    def log(self) -> Any:  # !
        return 0

    def log_derivative(self, x: Any) -> Any:
        return x
""",
    "a surrogate of two": """
class Wrong(Surrogate):
    def log_surrogate(self, x: Any) -> Any:
        return x

    def log_surrogate_derivative(self, x: Any, y: Any) -> Any:  # !
        return x
""",
    "a density of the rank alone": """
class Wrong(RankWeight):
    def density(self, log_rank: Any) -> Any:  # !
        return log_rank

    def integral(self, log_rank: Any, log_size: Any) -> Any:
        return log_rank
""",
    "a comparison that gives a kernel": """
class Wrong(RetrievalLoss):
    def compare(self, row: Row) -> Kernel:  # !
        return Hinge()

    def aggregate(self, totals: tuple, row: Row) -> Aggregate:
        return Aggregate(totals[0], ())
""",
    "an aggregate without the row": """
class Wrong(RetrievalLoss):
    def compare(self, row: Row) -> Channel:
        return Channel(Hinge())

    def aggregate(self, totals: tuple) -> Any:  # !
        return totals[0]
""",
    "negatives without a step": """
class Wrong(Negatives):
    def __call__(self) -> Any:  # !
        return 0

    def probability(self, items: Any) -> Any:
        return items

    def expected_count(self, items: Any) -> Any:  # !
        return items

    def get_config(self) -> list[int]:  # !
        return []
""",
    "an index that gives positions alone": """
class Wrong(Index):
    def _search(  # !
        self, queries: np.ndarray, k: int, exclude: Any, allowed: np.ndarray | None
    ) -> np.ndarray:
        return queries
""",
    "a kernel function of two": "CROLoss(lambda x, y: x)  # !",
    "rank functions of the rank alone": "FunctionWeight(lambda r: r, lambda r: r)  # !",
    "lists without their length": "evaluate_lists(lambda users: users, [])  # !",
    "a tower that is not told of training": """
class Wrong:
    variables: tuple[Any, ...] = ()

    def __call__(self, features: Any) -> Any:
        return features

RetrievalModel(Wrong(), Wrong(), 3, Retrieval(), UniformNegatives(3, 1))  # !
""",
    "what is no part of the negatives": """
class Tower:
    variables: tuple[Any, ...] = ()

    def __call__(self, features: Any, training: bool | None = None) -> Any:
        return features

RetrievalModel(Tower(), Tower(), 3, Retrieval(), Hinge())  # !
""",
    "a trial that gives a text": """
def train(assignment: Assignment) -> str:
    return ""

RandomSearch(train, {}, "folder")  # !
""",
}


@pytest.fixture(scope="module")
def refused(tmp_path_factory):
    """The lines that mypy refuses, by the name of the file: one run reads the package once."""
    folder = tmp_path_factory.mktemp("typing")
    names = {"right": RIGHT, **WRONG}
    for number, text in enumerate(names.values()):
        (folder / f"case_{number}.py").write_text(IMPORTS + text)
    options = ["--config-file", str(ROOT / "pyproject.toml"), "--cache-dir", str(folder / "cache")]
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MYPYPATH", str(ROOT))
        report, errors, _ = api.run([*options, *map(str, sorted(folder.glob("*.py")))])
    assert not errors
    found = re.findall(r"^(?:.*[/\\])?(\w+)\.py:(\d+): error", report, re.MULTILINE)
    lines = {name: set() for name in names}
    for stem, line in found:
        assert stem.startswith("case_"), report
        lines[[*names][int(stem.removeprefix("case_"))]].add(int(line))
    return lines


def test_what_fits_passes(refused):
    assert refused["right"] == set()


@pytest.mark.parametrize("name", WRONG)
def test_what_does_not_fit_is_refused_where_it_stands(name, refused):
    lines = (IMPORTS + WRONG[name]).splitlines()
    marked = {number for number, line in enumerate(lines, 1) if line.endswith("# !")}
    assert marked
    assert refused[name] == marked


def test_the_package_says_that_it_has_types():
    assert (ROOT / "tfrs_croloss" / "py.typed").exists()
