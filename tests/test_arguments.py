"""The checks of arguments that all folders share."""

import keras
import numpy as np
import pytest

from tfrs_croloss._arguments import check_choice, check_count, check_number

NO_NUMBERS = [True, "1", None, [1], np.ones(1), float("nan"), np.float32("inf"), 1j]


@pytest.mark.parametrize(
    "one",
    [1, 1.0, np.int64(1), np.float32(1), np.array(1), keras.ops.ones(()), keras.Variable(1.0)],
    ids=lambda one: type(one).__name__,
)
def test_a_number_of_any_library_is_a_number(one):
    assert check_number("x", one) == check_count("x", one) == 1
    assert type(check_number("x", one)) in (int, float)
    assert type(check_count("x", one)) is int


@pytest.mark.parametrize("value", NO_NUMBERS, ids=repr)
def test_what_is_no_number_is_refused_by_name(value):
    with pytest.raises(ValueError, match=r"^`x` must be a finite number\. Received: "):
        check_number("x", value)
    with pytest.raises(ValueError, match=r"^`x` must be a positive integer\. Received: "):
        check_count("x", value)


def test_counts_are_whole_and_at_least_their_least():
    assert check_count("x", 0, least=0) == 0
    for value in (0, -1, 1.5):
        with pytest.raises(ValueError, match=rf"^`x` must be a positive integer\. .*: {value}$"):
            check_count("x", value)
    for value in (-1, 0.5):
        with pytest.raises(ValueError, match=rf"^`x` must be a non-negative int.*: {value}$"):
            check_count("x", value, least=0)


@pytest.mark.parametrize("value", ["c", None, 1, ["a"]], ids=repr)
def test_a_choice_is_one_of_the_names(value):
    assert check_choice("x", "a", ("a", "b")) == "a"
    with pytest.raises(ValueError, match=r"^`x` must be one of a, b\. Received: "):
        check_choice("x", value, ("a", "b"))
