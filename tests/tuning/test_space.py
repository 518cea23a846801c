"""A space from plain data."""

import pytest

from tfrs_croloss.tuning import RandomSearch, build_space


def drawn(entry, tmp_path):
    """The values that a random search draws until it has had all."""
    values = []

    def train(assignment):
        values.append(assignment.values["x"])
        return 0.0

    RandomSearch(train, {"x": entry}, tmp_path / "search", max_trials=40).search()
    return values


@pytest.mark.filterwarnings("ignore:the search space is used up")
@pytest.mark.parametrize(
    ("entry", "expected"),
    [
        ([4, 2, 8], [2, 4, 8]),
        ([0, 0.5], [0.0, 0.5]),
        (["a", "b", None], ["a", "b", None]),
        ([None], [None]),
        ([True, False], [True, False]),
        ([True], [True]),
        ({"min": 1, "max": 4}, [1, 2, 3, 4]),
        ({"min": 1, "max": 7, "step": 3}, [1, 4, 7]),
        ({"min": 2, "max": 32, "step": 4, "scale": "log"}, [2, 8, 32]),
        ({"min": 0.0, "max": 1.0, "step": 0.5}, [0.0, 0.5, 1.0]),
        # Not .30000000000000004, and the last one, too: in floats nine of .1 fit into 1.
        (
            {"min": 0.0, "max": 1.0, "step": 0.1},
            [0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0],
        ),
        ({"min": 0.001, "max": 1, "step": 10, "scale": "log"}, [0.001, 0.01, 0.1, 1.0]),
        ({"min": 0.5, "max": 2, "step": 0.4}, [0.5, 0.9, 1.3, 1.7]),
        ({"min": -0.3, "max": 0.3, "step": 0.3}, [-0.3, 0.0, 0.3]),
        ({"min": 1, "max": 2, "step": 5.0}, [1.0]),
        # Three of 1/3, as a float has it, miss 1 by 1e-16.
        ({"min": 0, "max": 1, "step": 1 / 3}, [0.0, 1 / 3, 0.6666666666666666, 1.0]),
        (
            {"min": 1e-300, "max": 1e300, "step": 1e200, "scale": "log"},
            [1e-300, 1e-100, 1e100, 1e300],
        ),
        ({"min": -1e308, "max": 1e308, "step": 1e308}, [-1e308, 0.0, 1e308]),
        # A float has no value between the two.
        ({"min": 1e16, "max": 1e16 + 2, "step": 0.5}, [1e16, 1e16 + 2]),
    ],
)
def test_all_values_are_drawn_in_their_type(entry, expected, tmp_path):
    found = drawn(entry, tmp_path)
    assert len(found) == len(expected)  # each once: then the space is exhausted
    assert {(type(v), v) for v in found} == {(type(v), v) for v in expected}


def test_a_thousand_steps_are_taken():
    (parameter,) = build_space({"x": {"min": 0.0, "max": 1.0, "step": 0.001}}).space
    assert list(parameter.values) == [float(f"{place / 1000:.3f}") for place in range(1001)]
    # The Bayesian search takes them in their order.
    places = [parameter.value_to_prob(value) for value in parameter.values]
    assert places == sorted(places)


@pytest.mark.parametrize(
    ("entry", "number"),
    [
        ({"min": 0.0, "max": 1.001, "step": 0.001}, "1.001e+3"),
        ({"min": 0.0, "max": 1.0, "step": 1e-12}, "1.000e+12"),
        ({"min": -1e308, "max": 1e308, "step": 1e-308}, "2.000e+616"),
        ({"min": 1.0, "max": 1e300, "step": 1.000001, "scale": "log"}, "6.908e+8"),
    ],
)
def test_more_steps_are_counted_and_refused(entry, number):
    # At once: their list would take hours.
    with pytest.raises(ValueError, match="at most 1,000 steps") as raised:
        build_space({"x": entry})
    assert "x: expected a `step`" in str(raised.value)
    assert f"found {number} of them: make it larger, or leave it out" in str(raised.value)


@pytest.mark.parametrize(("scale", "middle"), [("linear", 0.505), ("log", 0.1)])
def test_a_range_is_drawn_evenly_on_its_scale(scale, middle):
    (parameter,) = build_space({"x": {"min": 0.01, "max": 1.0, "scale": scale}}).space
    found = [parameter.random_sample(seed) for seed in range(200)]
    assert 0.01 <= min(found) < max(found) <= 1.0
    assert 70 < sum(value < middle for value in found) < 130


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ([], "x: expected a list of values, or a range"),
        (3, "x: expected a list of values, or a range"),
        ([1, "a"], "x: expected values that are all numbers"),
        ([1, 1], "x: expected values that differ"),
        ([1, 1.0], "x: expected values that differ"),
        ([[1], [2]], "x: expected values that are all numbers"),
        ([10**400], "x: expected values that are all numbers"),
        (["null"], "x: expected values that are"),
        ([float("nan")], "x: expected values that are"),
        ({"min": 1}, "x: expected a range with `min`, `max`"),
        ({"min": 1, "max": 2, "size": 3}, "x: expected a range with `min`, `max`"),
        ({"min": 2, "max": 2}, "x: expected `min` to be less than `max`"),
        ({"min": 1, "max": "2"}, "x: expected a finite number as `max`, found '2'"),
        ({"min": 1, "max": float("inf")}, "x: expected a finite number as `max`, found inf"),
        ({"min": 1, "max": 10**400}, "x: expected a finite number as `max`, found 1000"),
        ({"min": {"min": 1, "max": 2}, "max": 3}, "x: expected a finite number as `min`, found {"),
        ({"min": 0, "max": 1, "step": float("nan")}, "x: expected a finite number as `step`"),
        ({"min": 0, "max": 1, "step": True}, "x: expected a finite number as `step`, found True"),
        ({"min": 0, "max": 2**53 + 1}, r"x: expected integers from -2\*\*53 to 2\*\*53"),
        (
            {"min": -1e308, "max": 1e308},
            "x: expected a distance between `max` and `min` that",
        ),
        (
            {"min": 1e-300, "max": 1e300, "scale": "log"},
            "x: expected a ratio of `max` and `min` that a float can hold",
        ),
        ({"min": 2.0, "max": 1.0, "step": 0.1}, "x: expected `min` to be less than `max`"),
        ({"min": 0, "max": 2, "scale": "log"}, "x: expected a positive `min`, as `scale` is log"),
        ({"min": 1, "max": 2, "scale": "ln"}, "x: expected `scale` to be linear or log"),
        ({"min": 1, "max": 2, "step": 0}, "x: expected a `step` above 0"),
        ({"min": 1, "max": 2, "step": 1, "scale": "log"}, "x: expected a `step` of more than 1"),
    ],
)
def test_what_makes_no_space(entry, message):
    with pytest.raises(ValueError, match=message) as raised:
        build_space({"x": entry})
    assert f"Received: {entry!r}" in str(raised.value)
