"""What a person names by class: the loss, towers, negatives, optimizer and callbacks of a run.

In a config each is a dict of a `class_path` and its `init_args`, as jsonargparse has it, or a list
of such. This module turns what a person wrote into that, and that into objects.
"""

import contextlib
import copy
import dataclasses
import difflib
import functools
import inspect
import itertools
import json
import pkgutil
import re
import typing
from pathlib import Path
from typing import Any, NamedTuple

import jsonargparse
import yaml

# Parameters that are not asked for: the data decides them, the towers that are there, or an option
# that holds for all classes (the seed, the width of the embeddings, whether they are normalised).
FILLED = ("num_items", "num_users", "item_counts", "item_tower", "seed", "dim", "normalize")


# Defaults that a file of options can hold.
PLAIN = str | int | float | bool | list | tuple | None


UNKNOWN = "there is no class of this name; one of your own is named with its module:"
WHERE = "The file of a module must be in the current folder, or installed"


class Role(NamedTuple):
    """What a class can be named for.

    Attributes:
        base: What classes it takes, as `module.name`: it is imported only when that is needed.
        is_list: Whether several are named.
        is_filled: Whether their parameters are filled in.
        default: What there is where nothing is named.
        help: A sentence for the help of the option.
    """

    base: str
    is_list: bool
    is_filled: bool
    default: Any
    help: str


def spec(class_path, **init_args):
    """The dict of a class and its arguments."""
    return {"class_path": class_path, "init_args": init_args}


ROLES = {
    "loss": Role(
        "tfrs_croloss.losses.RetrievalLoss",
        is_list=False,
        is_filled=True,
        default=spec("tfrs_croloss.CROLoss", lambda_kernel="sigmoid", temperature=0.1),
        help="Loss, e.g. SoftmaxLoss or my_module.MyLoss. What is not given of a class that is "
        "named is as in Python.",
    ),
    "query_tower": Role(
        "tf_keras.Model",
        is_list=False,
        is_filled=True,
        default=spec("tfrs_croloss.retrieval.UserTower"),
        help="Query tower: UserTower (an embedding a user: matrix factorisation), HistoryTower "
        "(the mean of a user's last items through a dense layer; knows new users by their items), "
        "or one of your own.",
    ),
    "candidate_tower": Role(
        "tf_keras.Model",
        is_list=False,
        is_filled=True,
        default=spec("tfrs_croloss.retrieval.ItemTower"),
        help="Candidate tower, from the positions of items to embeddings.",
    ),
    "negatives": Role(
        "tfrs_croloss.retrieval.Negatives",
        is_list=True,
        is_filled=True,
        default=[spec("tfrs_croloss.retrieval.UniformNegatives", num_negatives=1024)],
        help="Parts of the negatives, e.g. InBatchNegatives; --negatives+=PART adds one.",
    ),
    "optimizer": Role(
        "tf_keras.optimizers.Optimizer",
        is_list=False,
        is_filled=False,
        default=spec("tfrs_croloss.retrieval.FusedAdam", learning_rate=0.01),
        help="Optimizer, e.g. Adagrad of Keras.",
    ),
    "callbacks": Role(
        "tf_keras.callbacks.Callback",
        is_list=True,
        is_filled=False,
        default=[],
        help="Keras callbacks of the training, e.g. TensorBoard; --callbacks+=CLASS adds one.",
    ),
}


def add_roles(parser, light=False):
    """Adds an option for each role to a parser.

    Args:
        parser: An `ArgumentParser`.
        light: Whether only the help of the options is wanted, without their classes, which takes a
            hundredth of the time.
    """
    group = parser.add_argument_group(
        "Classes: what a run is made of, by class; arguments follow as in --loss.alpha 1.2, and "
        "--loss.help CROLoss shows them"
    )
    for name, role in ROLES.items():
        if light:
            default = in_words(role.default) if role.default else "none"
            text = f"{role.help} (default: {default})"
            group.add_argument(f"--{name}", metavar="CLASS", type=str, help=text)
            continue
        base = _base(role.base)
        group.add_argument(
            f"--{name}",
            # None is what a class that is named takes the place of.
            type=list[base] if role.is_list else base | None,
            default=None,
            help=role.help,
        )
        # A part of a part, too: OwnNegatives takes one.
        skip = {*FILLED, *(f"part.init_args.{wanted}" for wanted in FILLED)}
        options = {"fail_untyped": False, "skip": skip if role.is_filled else set()}
        # `add_subclass_arguments` knows these options, but no lists. Those of `--loss.help` too.
        for action in parser._actions:
            if {f"--{name}", f"--{name}.help"} & set(action.option_strings):
                action.sub_add_kwargs = options


def with_classes(args):
    """The words of a command and its options, with what jsonargparse would not do by itself.

    - The default of a role comes first, unless a file names the role, so that `--loss.alpha 1.2`
      changes it.
    - A class that is named, by a word or in a file, comes without the arguments of the one before:
      jsonargparse keeps those that the new one takes as well.
    - `--negatives PART` is a list of one.

    Raises:
        ValueError: If an argument comes before the class that it would be lost to.
    """
    command, *args = args
    named = _roles_named(args)
    in_files = set().union(*(roles for _, is_file, roles in named if is_file))
    words = [command]
    words += [
        f"--{name}={json.dumps(role.default)}"
        for name, role in ROLES.items()
        if name not in in_files
    ]
    given, seen = {}, set()
    for word, is_file, roles in named:
        option = word.partition("=")[0].removeprefix("--")
        role = option.partition(".")[0]
        if "." in option and role in ROLES.keys() - seen and not option.endswith(".help"):
            given.setdefault(role, word.partition("=")[0])
        for name in roles:
            if name in given:
                raise ValueError(
                    f"{given[name]} must come after {word.partition('=')[0]}, which names the "
                    f"class. Received: it before"
                )
            seen.add(name)
            words.append(f"--{name}={'[]' if ROLES[name].is_list else 'null'}")
            if ROLES[name].is_list and not is_file:
                word = _as_list(word, name, args)
        words.append(word)
    return words


def _roles_named(args):
    """Of each word whether it is a file of options, and the roles that it, or the file, names."""
    found = []
    for word, after in itertools.pairwise([*args, ""]):
        option, is_joined, value = word.partition("=")
        roles, is_file = set(), option == "--config"
        if option in ("--co", "--con", "--conf", "--confi"):
            raise ValueError(f"--config must be written out. Received: {option}")
        if is_file:
            # What is wrong with a file is said elsewhere.
            with contextlib.suppress(OSError, UnicodeDecodeError, yaml.YAMLError, TypeError):
                roles.update(yaml.safe_load(Path(value if is_joined else after).read_text()))
        elif word.startswith("--"):
            roles.add(option.removeprefix("--"))
        found.append((word, is_file, sorted(roles & ROLES.keys())))
    return found


def _as_list(word, name, args):
    """The word of a role that is a list, which adds one part where it names one."""
    _, is_joined, value = word.partition("=")
    value = value if is_joined else next(iter(args[args.index(word) + 1 :]), "")
    return word if value[:1] in ("[", "{") else word.replace(f"--{name}", f"--{name}+", 1)


def canonical(name, value):
    """What was named for a role, as dicts with the full path of each class and what was given it.

    Args:
        name: Of the role.
        value: A class path or short name, a dict of `class_path` and `init_args`, or a list.

    Raises:
        ValueError: If there is no such class or argument; with the names that are near.
    """
    if ROLES[name].is_list and not isinstance(value, list):
        value = [value]
    parser = _parser_of_classes()
    try:
        # A copy: jsonargparse changes what it is given.
        found = parser.parse_object({name: copy.deepcopy(value)}, defaults=False)
    except jsonargparse.ArgumentError as error:
        raise ValueError(explained(str(error))) from None
    return _plain(found[name])


def resolved(name, named):
    """What `canonical` gave with the defaults that the classes have today.

    A run that is resumed or repeated is then the same when a default has changed.
    """
    if isinstance(named, list):
        return [resolved(name, one) for one in named]
    left_out = FILLED if ROLES[name].is_filled else ()
    defaults = {
        parameter: of.default
        for parameter, of in inspect.signature(_imported(named["class_path"])).parameters.items()
        if isinstance(of.default, PLAIN) and parameter not in left_out
    }
    return spec(named["class_path"], **{**named["init_args"], **_missing(defaults, named)})


def _missing(defaults, named):
    return {name: x for name, x in defaults.items() if name not in named["init_args"]}


def typed_argument(name, named, argument, value):
    """The value of an argument of a class in the type that it has there.

    Args:
        name: Of the role.
        named: A dict of `class_path` and `init_args`.
        argument: Name of the argument.
        value: What came.

    Raises:
        ValueError: If the class does not take it.
    """
    changed = spec(named["class_path"], **{**named["init_args"], argument: value})
    found = canonical(name, changed)
    return (found[0] if ROLES[name].is_list else found)["init_args"][argument]


def _plain(found):
    """A namespace of jsonargparse as dicts and lists, a class with its arguments."""
    if isinstance(found, list | tuple):
        return [_plain(x) for x in found]
    if isinstance(found, jsonargparse.Namespace):
        found = {name: _plain(x) for name, x in vars(found).items()}
    return {"init_args": {}, **found} if _is_spec(found) else found


def explained(message):
    """A message of jsonargparse about a class, in one line, with the names that are near."""
    message = " ".join(message.split())
    role = re.search(r'key "(\w+)"', message)
    wrong = re.search(r"(?:import path string: |given class_path |Import path )'?([\w.]+)", message)
    if role is None or role[1] not in ROLES or wrong is None:
        return message
    reason = re.search(r"Errors: - (.*) - Expected a <class 'NoneType'>", message)
    message = f"--{role[1]}: {reason[1] if reason else message.partition(': ')[2]}"
    message = message.replace("Expected a dot import path string:", UNKNOWN)
    if "No module named" in message:
        message += f". {WHERE}"
    names = [cls.__name__ for cls in _classes(_base(ROLES[role[1]].base))]
    name = wrong[1].rpartition(".")[2]
    if option := re.search(r"Option '(\w+)' is not accepted", message):
        name, names = option[1], parameters_of({"class_path": wrong[1]})
    near = [] if name in names else difflib.get_close_matches(name, names, n=3)
    return f"{message}. Near it: {', '.join(near)}" if near else message


def parameters_of(named):
    """The parameters by name of what a spec names, those too that it hands on to its bases."""
    made_by, found = _imported(named["class_path"]), {}
    for base in made_by.__mro__[:-1] if inspect.isclass(made_by) else [made_by]:
        if inspect.isclass(base) and "__init__" not in vars(base):
            continue
        parameters = inspect.signature(base).parameters
        found = {**parameters, **found}
        if not any(of.kind == of.VAR_KEYWORD for of in parameters.values()):
            break
    return found


def class_of(named):
    """The class that a spec names; for a function that makes one, e.g. a class method, its class.

    Raises:
        ValueError: If it is gone.
    """
    made_by = _imported(named["class_path"])
    if inspect.isclass(made_by):
        return made_by
    return typing.get_type_hints(made_by)["return"]


def built(named, facts):
    """The object that a spec names, its parameters filled in.

    A parameter of one of the names of `facts` gets its value, unless it is given or is off by
    default (None). A class may want that one, too: then it has the name in `from_data`.

    Args:
        named: A dict of `class_path` and `init_args`, or a list of such.
        facts: Values by name; functions of none are called for theirs.

    Raises:
        ValueError: If a class can't be imported, or not be made of its arguments.
    """
    if isinstance(named, list):
        return [built(one, facts) for one in named]
    made_by, parameters = _imported(named["class_path"]), parameters_of(named)
    given = {
        name: _value(parameters.get(name), value, facts)
        for name, value in named["init_args"].items()
    }
    for name, parameter in parameters.items():
        is_off = parameter.default is None and name not in getattr(made_by, "from_data", ())
        if name in facts and name not in given and not is_off:
            value = facts[name]
            given[name] = value() if inspect.isfunction(value) else value
    try:
        return made_by(**given)
    except TypeError as error:
        raise ValueError(
            f"{named['class_path']} can't be made of {', '.join(given) or 'nothing'}: {error}"
        ) from error


def _value(parameter, value, facts):
    """The value of an argument, classes and dataclasses in it made."""
    if _is_spec(value):
        return built(value, facts)
    if isinstance(value, list):
        return [_value(None, one, facts) for one in value]
    kind = getattr(parameter, "annotation", None)
    is_made = isinstance(value, dict) and inspect.isclass(kind) and dataclasses.is_dataclass(kind)
    return kind(**value) if is_made else value


def known_names():
    """The short names of all classes that can be named."""
    return {cls.__name__ for role in ROLES.values() for cls in _classes(_base(role.base))}


def short_name(named):
    """The name of a class without its package."""
    return named["class_path"].rpartition(".")[2]


def _imported(class_path):
    try:
        return pkgutil.resolve_name(class_path)
    except (ImportError, AttributeError, ValueError) as error:
        raise ValueError(f"{class_path} can't be imported ({error}). {WHERE}") from None


@functools.cache
def _parser_of_classes():
    parser = jsonargparse.ArgumentParser(exit_on_error=False)
    add_roles(parser)
    return parser


@functools.cache
def _base(path):
    # The classes of this package can then be named without it.
    import tfrs_croloss.retrieval  # noqa: F401

    if path.startswith("tf_keras."):
        from tfrs_croloss.retrieval.requirements import tf_keras

        return functools.reduce(getattr, path.split(".")[1:], tf_keras)
    return pkgutil.resolve_name(path)


def _classes(base):
    for cls in base.__subclasses__():
        yield cls
        yield from _classes(cls)


def _is_spec(value):
    return isinstance(value, dict) and "class_path" in value


def in_words(value):
    """A spec, or a list of such, as one would write it in Python; all else as it is."""
    if isinstance(value, list) and any(map(_is_spec, value)):
        return ", ".join(map(in_words, value))
    if not _is_spec(value):
        return str(value)
    arguments = value["init_args"].items()
    return f"{short_name(value)}({', '.join(f'{name}={in_words(x)}' for name, x in arguments)})"
