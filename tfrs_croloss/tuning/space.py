"""A search space from plain data, as a YAML or JSON file holds it."""

import math
import sys
from collections.abc import Mapping
from decimal import Decimal
from typing import Any

import keras_tuner
from keras_tuner.engine.hyperparameters import Float, Int

# In place of None, which a choice of keras-tuner can't hold.
NONE = "null"
RANGE_KEYS = ("min", "max", "step", "scale")
# By how much of a step the last one may miss the end of the range, which it is to reach.
STEP_TOLERANCE = Decimal("1e-9")
# keras-tuner writes the values of these into a file with each trial.
MAX_STEPS = 1000
# Up to it a float, as which keras-tuner draws them, holds every integer.
MAX_INTEGER = 2**53


def build_space(entries: Mapping[str, Any]) -> Any:
    """The `keras_tuner.HyperParameters` that `entries` describe.

    Args:
        entries: A dict from a hyperparameter's name to one of

            - a list of values to choose from: numbers (which have an order), or any of strings,
              booleans and None;
            - a range `{"min": …, "max": …}`, both ends included. Of integers where all its numbers
              are such; `"scale": "log"` spreads the values evenly by ratio; `"step"` leaves only
              every step-th value, counted from `min`, on the log scale a factor. Of fractions, at
              most 1,000 steps.

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


def is_active(parameter, values):
    """Whether a `keras_tuner` hyperparameter has a value beside those of the ones before it."""
    return all(condition.is_active(values) for condition in parameter.conditions)


def combinations(parameters, rng):
    """Walks all combinations of a space: every value beside every other.

    Of a range without steps that has a fraction's values, one is drawn.

    Args:
        parameters: The hyperparameters, each after those that it depends on.
        rng: `random.Random`, of where each one's values begin.

    Yields:
        Dicts from the name of each active hyperparameter to its value.
    """
    return _walk(list(parameters), {}, rng)


def _walk(parameters, values, rng):
    if not parameters:
        yield values
        return
    first, *rest = parameters
    if not is_active(first, values):
        yield from _walk(rest, values, rng)
        return
    choices = _choices(first, rng)
    start = rng.randrange(len(choices))
    # Not a shuffled list: integers may range over millions.
    for place in range(len(choices)):
        choice = choices[(start + place) % len(choices)]
        yield from _walk(rest, {**values, first.name: choice}, rng)


def _choices(parameter, rng):
    if isinstance(parameter, Float) and parameter.step is None:
        return [parameter.random_sample(rng.random())]
    if isinstance(parameter, Int) and parameter.step is None:
        return range(parameter.min_value, parameter.max_value + 1)
    if isinstance(parameter, Int) and parameter.sampling == "linear":
        return range(parameter.min_value, parameter.max_value + 1, parameter.step)
    # keras-tuner lists the integers of a logarithmic range as floats.
    kind = int if isinstance(parameter, Int) else lambda value: value
    return list(map(kind, parameter.values))


def _add(space, name, entry):
    if isinstance(entry, dict):
        _add_range(space, name, entry)
    elif isinstance(entry, list) and entry:
        _add_choice(space, name, entry)
    else:
        raise ValueError("expected a list of values, or a range with `min` and `max`")


def _add_choice(space, name, values):
    if all(_is_number(value) for value in values):
        # keras-tuner wants one type.
        kind = int if all(isinstance(value, int) for value in values) else float
        values = sorted(map(kind, values))
        _check_distinct(values)
        space.Choice(name, values)
        return
    _check_distinct(list(map(repr, values)))
    if all(isinstance(value, bool) for value in values):
        space.Boolean(name) if len(values) == 2 else space.Fixed(name, values[0])
    elif all(isinstance(value, str) or value is None for value in values) and NONE not in values:
        space.Choice(name, [NONE if value is None else value for value in values])
    else:
        raise ValueError("expected values that are all numbers, all true or false, or all strings")


def _check_distinct(values):
    if len(set(values)) < len(values):
        raise ValueError("expected values that differ")


def _add_range(space, name, entry):
    unknown = [key for key in entry if key not in RANGE_KEYS]
    if unknown or "min" not in entry or "max" not in entry:
        raise ValueError("expected a range with `min`, `max` and perhaps `step` and `scale`")
    scale = entry.get("scale", "linear")
    if scale not in ("linear", "log"):
        raise ValueError(f"expected `scale` to be linear or log, found {scale!r}")
    numbers = {key: entry[key] for key in ("min", "max", "step") if key in entry}
    _check_range(numbers, scale)
    low, high, step = (numbers.get(key) for key in ("min", "max", "step"))
    if all(isinstance(number, int) for number in numbers.values()):
        if max(-low, high) > MAX_INTEGER:
            raise ValueError("expected integers from -2**53 to 2**53")
        space.Int(name, low, high, step=step, sampling=scale)
    elif step is not None:
        # Of keras-tuner's own steps rounding may lose the last: nine of .1 fit between 0 and 1.
        space.Choice(name, _steps(low, high, step, scale))
    else:
        # keras-tuner draws from it in floats.
        low, high = float(low), float(high)
        if not math.isfinite(high / low if scale == "log" else high - low):
            reach = "ratio of" if scale == "log" else "distance between"
            raise ValueError(f"expected a {reach} `max` and `min` that a float can hold")
        space.Float(name, low, high, sampling=scale)


def _check_range(numbers, scale):
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


def _steps(low, high, step, scale):
    """The values of a range with steps, as one writes them: .3, and not 3 * .1 of floats."""
    low, high, step = (Decimal(repr(float(number))) for number in (low, high, step))
    is_log = scale == "log"
    # Decimals hold this where floats overflow.
    span = (high / low).ln() / step.ln() if is_log else (high - low) / step
    last = math.floor(span + STEP_TOLERANCE)
    if last > MAX_STEPS:
        raise ValueError(
            f"expected a `step` that leaves at most {MAX_STEPS:,} steps between `min` and `max`, "
            f"found {span:.3e} of them: make it larger, or leave it out for any value between them"
        )
    values = [low * step**place if is_log else low + step * place for place in range(last + 1)]
    if abs(span - last) <= STEP_TOLERANCE:
        values[last] = high
    # Beside a large `min`, a small step may be lost in a float.
    return list(dict.fromkeys(map(float, values)))


def _is_number(value):
    """Whether it is a number that a float can hold: neither NaN nor infinite, and no boolean."""
    is_real = isinstance(value, int | float) and not isinstance(value, bool)
    return is_real and abs(value) <= sys.float_info.max
