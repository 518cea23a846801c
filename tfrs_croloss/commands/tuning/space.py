"""The search space of `tune`: which options it varies, and where, read from a file."""

import dataclasses
import re
from importlib.resources import files
from pathlib import Path

import jsonargparse
import numpy as np
import yaml
from jsonargparse.typing import PositiveFloat, PositiveInt

from tfrs_croloss.commands.experiment.options import Config, DataOptions
from tfrs_croloss.tuning import build_space

SPACES = files(__package__) / "spaces.yaml"
COMMON = "common"
# What a search leaves alone, beside the data: how long to train, how to judge it, and where.
LEFT_ALONE = {
    *("epochs", "validate_every", "patience", "top_n", "select", "seed"),
    *("strategy", "replicas", "workers", "save_every", "name", "runs", "loss"),
    *(field.name for field in dataclasses.fields(DataOptions)),
}
# Options that are lists, by parts.
PARTS = {
    "margins": {"number": PositiveInt, "first": float, "last": float},
    "weights": {"growth": PositiveFloat},
}
TYPES = {
    field.name: field.type
    for field in dataclasses.fields(Config)
    if field.name not in {*LEFT_ALONE, *PARTS}
} | {f"{option}.{part}": kind for option, parts in PARTS.items() for part, kind in parts.items()}


def read_space(path, loss, fix=()):
    """Reads the space of a loss.

    Args:
        path: YAML file as `spaces.yaml`, or None for that one.
        loss: Name of the loss.
        fix: Options of the space that are left alone.

    Returns:
        A dict from an option, or a part of one as in `margins.first`, to what `build_space` takes.

    Raises:
        ValueError: With path, line and key, what was found and what was expected; or if `fix` names
            what is not in the space.
        OSError: If it can't be read.
    """
    path = SPACES if path is None else Path(path)
    try:
        root = yaml.compose(path.read_text(), Loader=_Loader)
    except (UnicodeDecodeError, yaml.YAMLError) as error:
        raise ValueError(f"{path}: expected YAML. {error}") from None
    if root is None:
        raise ValueError(f"{path}: the file is empty")
    known = Config.__dataclass_fields__["loss"].type.__args__
    entries = {}
    # First what all losses have, for the loss to change.
    for wanted in (COMMON, loss):
        for section, node, line in _items(path, root, "the sections"):
            if section not in (COMMON, *known):
                expected = ", ".join((COMMON, *known))
                raise ValueError(
                    f"{path}, line {line}: expected one of {expected}; not {section!r}"
                )
            if section == wanted:
                entries |= _section(path, node, section)
    options = {name.partition(".")[0] for name in entries}
    unknown = [option for option in fix if option not in options]
    if unknown:
        raise ValueError(
            f"--fix must name options that {path} varies for {loss}: {', '.join(sorted(options))}. "
            f"Received: {', '.join(unknown)}"
        )
    entries = {n: entry for n, entry in entries.items() if n.partition(".")[0] not in fix}
    if not entries:
        raise ValueError(f"{path}: nothing is left to vary for {loss}, in its section or in common")
    return entries


def options_of(values, config):
    """The options that a trial's values stand for: the parts of lists put together.

    Args:
        values: From the names of `read_space` to values.
        config: `Config` of all that is not varied.
    """
    options = {name: value for name, value in values.items() if "." not in name}
    if "margins.number" in values:
        number, first = values["margins.number"], values["margins.first"]
        last = values.get("margins.last", first)
        # Six digits are enough, and legible.
        options["margins"] = np.linspace(first, last, number).round(6).tolist()
    if "weights.growth" in values:
        number = len(options.get("margins", config.margins))
        weights = values["weights.growth"] ** np.arange(number)
        options["weights"] = (weights / weights.sum()).round(6).tolist()
    return options


def _section(path, node, section):
    entries, lines = {}, {}
    for option, value, line in _items(path, node, f"the options of {section}"):
        if option in PARTS:
            parts = _items(path, value, f"the parts of {option}, {', '.join(PARTS[option])}")
            found = {f"{option}.{part}": (node, line) for part, node, line in parts}
        else:
            found = {option: (value, line)}
        for name, (value, line) in found.items():
            if name not in TYPES:
                raise ValueError(f"{path}, line {line}: {name!r} is no option that can be tuned")
            try:
                entries[name] = _checked(name, _Loader("").construct_document(value))
                build_space({name: entries[name]})
            except (ValueError, yaml.YAMLError) as error:
                raise ValueError(f"{path}, line {line}: {error}") from None
            lines[name] = line
    _check_margins(path, entries, lines)
    return entries


def _check_margins(path, entries, lines):
    margins = {n.partition(".")[2]: e for n, e in entries.items() if n.startswith("margins.")}
    if not margins:
        return
    line = min(lines[f"margins.{part}"] for part in margins)
    is_one = margins.get("number") == [1]
    wanted = ("number", "first") if is_one else ("number", "first", "last")
    missing = [part for part in wanted if part not in margins]
    if missing:
        raise ValueError(f"{path}, line {line}: margins: expected {', '.join(missing)}, too")
    if not is_one and not _ends(margins["first"])[1] < _ends(margins["last"])[0]:
        raise ValueError(
            f"{path}, line {line}: margins: expected every `last` to be more than every `first`. "
            f"Received: first {margins['first']}, last {margins['last']}"
        )


def _ends(entry):
    return (entry["min"], entry["max"]) if isinstance(entry, dict) else (min(entry), max(entry))


def _checked(name, entry):
    """The entry with its values in the option's type; a single value is a choice of one."""
    if isinstance(entry, dict):
        typed = {key: _typed(name, entry[key]) for key in ("min", "max") if key in entry}
        return {**entry, **typed}
    return [_typed(name, value) for value in (entry if isinstance(entry, list) else [entry])]


def _typed(name, value):
    parser = jsonargparse.ArgumentParser(exit_on_error=False)
    parser.add_argument("--value", type=TYPES[name])
    try:
        return parser.parse_object({"value": value}).value
    except jsonargparse.ArgumentError as error:
        expected = str(error).splitlines()[-1].strip().replace("typing.", "")
        raise ValueError(f"{name}: {expected}") from None


def _items(path, node, what):
    """Key, value and line of each item of a mapping."""
    if not isinstance(node, yaml.MappingNode):
        raise ValueError(
            f"{path}, line {node.start_mark.line + 1}: expected {what}, each with a colon"
        )
    found = [(key.value, value, key.start_mark.line + 1) for key, value in node.value]
    keys = [key for key, _, _ in found]
    for place, (key, _, line) in enumerate(found):
        if key in keys[:place]:
            raise ValueError(f"{path}, line {line}: {key!r} stands there twice")
    return found


class _Loader(yaml.SafeLoader):
    """Takes 1e-4 for a number, which YAML 1.1 wants as 1.0e-4."""


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"[-+]?[0-9]+(\.[0-9]*)?[eE][-+]?[0-9]+$"), "-+0123456789"
)
