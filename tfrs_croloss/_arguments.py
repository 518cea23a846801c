"""Checks of numbers and names that whoever calls the package gives, for all of its folders."""

import contextlib
import math
import numbers

import numpy as np

# A score of any size over it stays within float32.
MIN_TEMPERATURE = 1e-6


def check_number(name, value, expected="a finite number", is_valid=lambda number: True):
    """Returns `value` as a plain number, or raises a `ValueError` that names the argument.

    Args:
        name: The argument.
        value: What came: a number of Python or NumPy, or a tensor of one.
        expected: What it must be, in words.
        is_valid: Whether a finite number is that.

    Example:

    >>> check_number("share", 0.5, "a share from 0 to 1", lambda share: 0 <= share <= 1)
    0.5
    """
    if getattr(value, "ndim", None) == 0:
        # What a graph computes has no value yet, and is refused.
        with contextlib.suppress(NotImplementedError, RuntimeError, TypeError, ValueError):
            value = np.asarray(value).item()
    is_number = isinstance(value, numbers.Real) and not isinstance(value, bool)
    if not (is_number and math.isfinite(value) and is_valid(value)):
        raise ValueError(f"`{name}` must be {expected}. Received: {value!r}")
    return value


def check_non_negative(name, value):
    """As `check_number`, for 0 and above."""
    return check_number(name, value, "a non-negative number", lambda number: number >= 0)


def check_positive(name, value):
    """As `check_number`, for more than 0."""
    return check_number(name, value, "a positive number", lambda number: number > 0)


def check_temperature(name, value):
    """As `check_positive`, for what divides scores."""
    return check_number(
        name,
        check_positive(name, value),
        f"at least {MIN_TEMPERATURE}",
        lambda number: number >= MIN_TEMPERATURE,
    )


def check_count(name, value, least=1):
    """As `check_number`, for whole numbers from `least`, 1 or 0."""
    expected = "a positive integer" if least else "a non-negative integer"
    return int(check_number(name, value, expected, lambda n: n >= least and n == int(n)))


def check_choice(name, value, choices):
    """Returns `value` if it is one of `choices`, or raises a `ValueError` that has them all."""
    if not isinstance(value, str) or value not in choices:
        raise ValueError(f"`{name}` must be one of {', '.join(choices)}. Received: {value!r}")
    return value
