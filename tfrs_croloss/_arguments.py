"""Checks of constructor arguments that losses, kernels and rank weights share."""

import math
import numbers

import numpy as np

# A score of any size over it stays within float32.
MIN_TEMPERATURE = 1e-6


def check_number(name, value):
    """Returns `value` as a plain number, or raises a `ValueError` that names the argument."""
    return _check(name, value, "a finite number", lambda number: True)


def check_non_negative(name, value):
    """As `check_number`, for 0 and above."""
    return _check(name, value, "a non-negative number", lambda number: number >= 0)


def check_positive(name, value):
    """As `check_number`, for more than 0."""
    return _check(name, value, "a positive number", lambda number: number > 0)


def check_temperature(name, value):
    """As `check_positive`, for what divides scores."""
    temperature = check_positive(name, value)
    if temperature < MIN_TEMPERATURE:
        raise ValueError(f"`{name}` must be at least {MIN_TEMPERATURE}. Received: {value!r}")
    return temperature


def check_count(name, value):
    """As `check_number`, for whole numbers from 1."""
    return int(
        _check(
            name, value, "a positive integer", lambda number: number > 0 and number == int(number)
        )
    )


def _check(name, value, expected, is_valid):
    if isinstance(value, np.generic):
        value = value.item()
    is_number = isinstance(value, numbers.Real) and not isinstance(value, bool)
    if not (is_number and math.isfinite(value) and is_valid(value)):
        raise ValueError(f"`{name}` must be {expected}. Received: {value!r}")
    return value
