"""The search space of `tune`: what it varies, arguments and options, and where, from a file."""

import copy
import dataclasses
import difflib
import functools
import re
from importlib.resources import files
from pathlib import Path

import jsonargparse
import numpy as np
import yaml
from jsonargparse.typing import PositiveFloat, PositiveInt

from tfrs_croloss.commands.experiment.classes import (
    FILLED,
    ROLES,
    class_of,
    known_names,
    parameters_of,
    short_name,
    typed_argument,
)
from tfrs_croloss.commands.experiment.options import Config, DataOptions
from tfrs_croloss.tuning import build_space

SPACES = files(__package__) / "spaces.yaml"
COMMON = "common"
# What a search leaves alone, beside the data: how long to train, how to judge it, and where.
LEFT_ALONE = {
    *("epochs", "validate_every", "patience", "top_n", "monitor", "seed"),
    *("strategy", "replicas", "workers", "save_every", "name", "runs"),
    *(field.name for field in dataclasses.fields(DataOptions)),
}
OPTIONS = {
    field.name: field.type
    for field in dataclasses.fields(Config)
    if field.name not in {*LEFT_ALONE, *ROLES}
}
# A list is described by its parts: numbers that are evenly spaced, or each so many times the one
# before, as many as another list has.
EVEN, GROWING = {"number", "first", "last"}, {"growth", "like"}


def read_space(path, config, fix=()):
    """Reads the space of a config.

    Args:
        path: YAML file as `spaces.yaml`, or None for that one.
        config: `Config` of all that is not varied.
        fix: What of the space is left alone, by name.

    Returns:
        A dict from a name to what `build_space` takes. The name is an option's, or a class and its
        argument as in `CROLoss.alpha`, or a part of that as in `MultiMarginLoss.margins.first`.

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
    classes, entries = named_classes(config), {}
    sections = list(_items(path, root, "the sections"))
    for section, _, line in sections:
        _check_section(path, line, section, classes)
    # First what all have, for a class to change.
    for section, node, _ in sorted(sections, key=lambda one: one[0] != COMMON):
        short = section.rpartition(".")[2]
        if short in classes and classes[short] is None:
            raise ValueError(
                f"{path}: {section}: expected a class that the run names once. Received: a run "
                "that names it twice"
            )
        if section == COMMON or (short in classes and _is_named(section, classes[short])):
            entries |= _section(path, node, short, classes)
    names = sorted({_argument(name) for name in entries})
    unknown = [name for name in fix if name not in names]
    if unknown:
        raise ValueError(
            f"--fix must name what {path} varies here: {', '.join(names)}. Received: "
            f"{', '.join(unknown)}"
        )
    entries = {name: entry for name, entry in entries.items() if _argument(name) not in fix}
    if not entries:
        raise ValueError(
            f"{path}: nothing is left to vary, in common or in the sections of "
            f"{', '.join(sorted(classes))}"
        )
    return entries


def _check_section(path, line, section, classes):
    """Raises unless a section is common or a class; one with a module may be any."""
    known = {COMMON, *classes, *known_names()}
    if "." in section:
        # Which says so where there is no such class.
        class_of({"class_path": section})
    elif section not in known:
        near = difflib.get_close_matches(section, known, n=3)
        raise ValueError(
            f"{path}, line {line}: {section!r} is neither common nor a class"
            f"{(near and '. Near it: ') or ''}{', '.join(near)}"
        )


def named_classes(config):
    """The classes that a config names: from the short name to where it stands and its spec.

    Where a name stands there twice there is None: what is varied would be of one of them.
    """
    found = {}
    for role, of_role in ROLES.items():
        specs = getattr(config, role)
        for place, named in enumerate(specs if of_role.is_list else [specs]):
            name = short_name(named)
            where = role, place if of_role.is_list else None, named
            found[name] = None if name in found else where
    return found


def _is_named(section, where):
    """Whether a section is of the class that stands there: by its short name, or its path."""
    return "." not in section or section == where[2]["class_path"]


def options_of(values, config):
    """The options of a config that a trial's values stand for.

    Args:
        values: From the names of `read_space` to values.
        config: `Config` of all that is not varied.
    """
    options, classes = {}, named_classes(config)
    changed = {role: copy.deepcopy(getattr(config, role)) for role in ROLES}
    arguments = {}
    for name, value in values.items():
        if "." not in name:
            options[name] = value
            continue
        cls, argument, *part = name.split(".")
        if part:
            arguments.setdefault((cls, argument), {})[part[0]] = value
        else:
            arguments[cls, argument] = value
    # Lists that are like others come after these.
    for (cls, argument), value in sorted(arguments.items(), key=_is_growing):
        role, place, _ = classes[cls]
        given = (changed[role] if place is None else changed[role][place])["init_args"]
        given[argument] = _list_of(value, given) if isinstance(value, dict) else value
        options[role] = changed[role]
    return options


def _is_growing(item):
    return isinstance(item[1], dict) and "growth" in item[1]


def _list_of(parts, given):
    """The list that its parts describe. Six digits are enough, and legible."""
    if "growth" in parts:
        values = parts["growth"] ** np.arange(len(given[parts["like"]]))
        return (values / values.sum()).round(6).tolist()
    last = parts.get("last", parts["first"])
    return np.linspace(parts["first"], last, parts["number"]).round(6).tolist()


def _argument(name):
    """A name without the part of a list."""
    return ".".join(name.split(".")[:2])


def _section(path, node, section, classes):
    """The entries of a section: arguments of its class, and options."""
    arguments, where = {}, COMMON
    if section != COMMON:
        role, _, named = classes[section]
        arguments, where = parameters_of(named), section
    entries = {}
    for name, value, line in _items(path, node, f"the options of {section}"):
        if name in arguments and not (name in FILLED and name in OPTIONS):
            full, typed = f"{section}.{name}", functools.partial(typed_argument, role, named, name)
        elif name in OPTIONS:
            full, typed = name, functools.partial(_as_type, name, OPTIONS[name])
        else:
            raise ValueError(
                f"{path}, line {line}: {name!r} is no option that can be tuned"
                + f", and no argument of {where}" * (where != COMMON)
            )
        try:
            entries |= _entries(full, _Loader("").construct_document(value), typed)
        except (ValueError, yaml.YAMLError) as error:
            raise ValueError(f"{path}, line {line}: {error}") from None
    return entries


def _entries(name, entry, typed):
    """What `build_space` takes for a name, or for each part of its list."""
    if isinstance(entry, dict) and not {"min", "max"} & entry.keys():
        return _parts(name, entry)
    if isinstance(entry, dict):
        entry |= {key: typed(entry[key]) for key in ("min", "max") if key in entry}
    else:
        # A single value is a choice of one.
        entry = [typed(value) for value in (entry if isinstance(entry, list) else [entry])]
    build_space({name: entry})
    return {name: entry}


def _parts(name, entry):
    """The parts of a list that is described by them."""
    wanted = GROWING if "growth" in entry else EVEN
    is_one = entry.get("number") in (1, [1])
    if entry.keys() - wanted or wanted - entry.keys() - ({"last"} if is_one else set()):
        raise ValueError(
            f"{name}: expected a range, a list of choices, or the parts of a list: number, first "
            f"and last, or growth and like. Received: {entry!r}"
        )
    parts = {}
    for part, values in entry.items():
        kind = {"number": PositiveInt, "growth": PositiveFloat, "like": str}.get(part, float)
        full = f"{name}.{part}"
        parts |= _entries(full, values, functools.partial(_as_type, full, kind))
    if not is_one and wanted is EVEN:
        first, last = parts[f"{name}.first"], parts[f"{name}.last"]
        if not _ends(first)[1] < _ends(last)[0]:
            raise ValueError(
                f"{name}: expected every `last` to be more than every `first`. Received: first "
                f"{first}, last {last}"
            )
    return parts


def _ends(entry):
    return (entry["min"], entry["max"]) if isinstance(entry, dict) else (min(entry), max(entry))


def _as_type(name, kind, value):
    parser = jsonargparse.ArgumentParser(exit_on_error=False)
    parser.add_argument("--value", type=kind)
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
