"""A search space from plain data, as a YAML or JSON file holds it."""

import math
from collections.abc import Mapping
from typing import Any

import keras_tuner

# In place of None, which a choice of keras-tuner can't hold.
NONE = "null"
RANGE_KEYS = ("min", "max", "step", "scale")


def build_space(entries: Mapping[str, Any]) -> Any:
    """The `keras_tuner.HyperParameters` that `entries` describe.

    Args:
        entries: A dict from a hyperparameter's name to one of

            - a list of values to choose from: numbers (which have an order), or any of strings,
              booleans and None;
            - a range `{"min": …, "max": …}`, both ends included. Of integers where both ends are
              such; `"scale": "log"` spreads the values evenly by ratio; `"step"` leaves only every
              step-th value, counted from `min`, on the log scale a factor.

    Returns:
        `keras_tuner.HyperParameters`, in the order of `entries`. None stands in it as `"null"`;
        `Assignment.values` has it back as None.

    Raises:
        ValueError: With the name, what came and what was expected.

    Example:

    >>> from tfrs_croloss.tuning import build_space
    >>> space = build_space(
    ...     {
    ...         "kernel": ["softplus", "hinge", None],
    ...         "temperature": {"min": 0.03, "max": 0.5, "scale": "log"},
    ...     }
    ... )
    >>> [parameter.name for parameter in space.space]
    ['kernel', 'temperature']
    """
    space = keras_tuner.HyperParameters()
    for name, entry in entries.items():
        try:
            _add(space, name, entry)
        except (TypeError, ValueError) as error:
            raise ValueError(f"{name}: {error}. Received: {entry!r}") from None
    return space


def decoded(value):
    """A value of a hyperparameter as the user of the space knows it."""
    if value == NONE:
        return None
    # The Bayesian search gives numbers of NumPy.
    return value.item() if hasattr(value, "item") else value


def _add(space, name, entry):
    if isinstance(entry, dict):
        _add_range(space, name, entry)
    elif isinstance(entry, list) and entry:
        _add_choice(space, name, entry)
    else:
        raise ValueError("expected a list of values, or a range with `min` and `max`")


def _add_choice(space, name, values):
    if len(set(map(repr, values))) < len(values):
        raise ValueError("expected values that differ")
    if all(_is_number(value) for value in values):
        # keras-tuner wants one type.
        kind = int if all(isinstance(value, int) for value in values) else float
        space.Choice(name, sorted(map(kind, values)))
    elif set(values) == {True, False}:
        space.Boolean(name)
    elif all(isinstance(value, str) or value is None for value in values) and NONE not in values:
        space.Choice(name, [NONE if value is None else value for value in values])
    elif len(values) == 1 and isinstance(values[0], bool):
        space.Fixed(name, values[0])
    else:
        raise ValueError("expected values that are all numbers, all true or false, or all strings")


def _add_range(space, name, entry):
    unknown = [key for key in entry if key not in RANGE_KEYS]
    if unknown or "min" not in entry or "max" not in entry:
        raise ValueError("expected a range with `min`, `max` and perhaps `step` and `scale`")
    scale = entry.get("scale", "linear")
    if scale not in ("linear", "log"):
        raise ValueError(f"expected `scale` to be linear or log, found {scale!r}")
    numbers = {key: entry[key] for key in ("min", "max", "step") if key in entry}
    for key, number in numbers.items():
        if not _is_number(number):
            raise ValueError(f"expected a finite number as `{key}`, found {number!r}")
    if not numbers["min"] < numbers["max"]:
        raise ValueError("expected `min` to be less than `max`")
    if scale == "log" and numbers["min"] <= 0:
        raise ValueError("expected a positive `min`, as `scale` is log")
    if numbers.get("step", math.inf) <= (1 if scale == "log" else 0):
        raise ValueError(
            "expected a `step` " + ("of more than 1, a factor" if scale == "log" else "above 0")
        )
    kind = space.Int if all(isinstance(number, int) for number in numbers.values()) else space.Float
    kind(name, numbers["min"], numbers["max"], step=numbers.get("step"), sampling=scale)


def _is_number(value):
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
