"""How much of a search's outcome goes with each hyperparameter."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from scipy import stats

from tfrs_croloss._typing import Array

# Groups that the values of a number are cut into.
NUM_BINS = 3
# Trials a group, on average: of fewer the test can say nothing.
MIN_TRIALS = 3


class Importance(NamedTuple):
    """What one hyperparameter explains.

    Attributes:
        share: Share of the variance of the objective's ranks that lies between the groups of
            values, 0 to 1, without what chance alone would give.
        p_value: How often chance alone gives as much or more (Kruskal-Wallis).
    """

    share: float
    p_value: float


def importances(
    values: Sequence[Mapping[str, Any]],
    objectives: Array,
    budgets: Array | None = None,
) -> dict[str, Importance]:
    """The importance of each hyperparameter by itself, by the Kruskal-Wallis test.

    Trials are grouped by a hyperparameter: by its values, or where these are more than three
    numbers, by the lower, middle and upper third of them, so that a best value in the middle is
    seen. With H of the test, k groups and n trials,

    ```math
    share = max(0, (H - k + 1) / (n - k))
    ```

    which is 0 on average where a hyperparameter does nothing. It sees no interactions, and in a
    search that follows its own results (Bayesian optimisation) the values are no random sample:
    read it beside the plot, as a hint where to look.

    Source: Tomczak and Tomczak, "The need to report effect size estimates revisited", 2014.

    Args:
        values: A list over trials of dicts from a hyperparameter to its value.
        objectives: `[num_trials]`, finite.
        budgets: `[num_trials]`, epochs that the trials were granted, say: a trial is then ranked
            among those of its own budget.

    Returns:
        A dict from the hyperparameter to its `Importance`, the largest share first. Those with one
        group, or with fewer than three trials a group, are not in it.

    Example:

    >>> from tfrs_croloss.tuning import importances
    >>> values = [{"a": x, "b": x % 2} for x in range(12)]
    >>> found = importances(values, [-abs(x - 5.5) for x in range(12)])
    >>> list(found), round(found["a"].share, 2)
    (['a', 'b'], 0.62)
    """
    objectives = np.asarray(objectives, float)
    budgets = np.zeros(len(objectives)) if budgets is None else np.asarray(budgets)
    ranks = np.empty(len(objectives))
    for budget in np.unique(budgets):
        of_budget = budgets == budget
        ranks[of_budget] = (stats.rankdata(objectives[of_budget]) - 0.5) / of_budget.sum()
    found = {}
    for name in values[0] if values else ():
        groups = _groups([row[name] for row in values])
        samples = [ranks[groups == group] for group in np.unique(groups)]
        is_tested = 1 < len(samples) <= len(ranks) / MIN_TRIALS
        if is_tested and len(np.unique(ranks)) > 1:
            h, p_value = stats.kruskal(*samples)
            share = (h - len(samples) + 1) / (len(ranks) - len(samples))
            found[name] = Importance(float(np.clip(share, 0, 1)), float(p_value))
    return dict(sorted(found.items(), key=lambda item: (-item[1].share, item[1].p_value)))


def _groups(values):
    """The number of each value's group."""
    is_numeric = all(isinstance(v, int | float) and not isinstance(v, bool) for v in values)
    _, places = np.unique([v if is_numeric else str(v) for v in values], return_inverse=True)
    if not is_numeric or places.max() < NUM_BINS:
        return places
    return np.searchsorted(np.quantile(values, np.arange(1, NUM_BINS) / NUM_BINS), values)
