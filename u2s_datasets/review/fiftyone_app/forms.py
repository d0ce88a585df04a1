"""A form for any step, built from the step's own fields: a new field, part or profile shows up without a line here."""

import dataclasses
import functools
import importlib
import inspect
import types
import typing
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from u2s_datasets.errors import SetupError
from u2s_datasets.parts import Part, catalog
from u2s_datasets.parts.docstrings import argument_docs
from u2s_datasets.parts.editors import redact
from u2s_datasets.privacy.criteria import load_criteria
from u2s_datasets.stages import anonymize
from u2s_datasets.stages import inspect as inspect_stage
from u2s_datasets.stages import profiles as named_profiles
from u2s_datasets.stages.base import Step
from u2s_datasets.stages.profiles import RECIPES, Profile

SEPARATOR = "__"
_CHOICES = {
    ("Anonymize", "format"): anonymize.FORMATS,
    ("Inspect", "method"): inspect_stage.METHODS,
    ("Redact", "method"): redact.METHODS,
}
_GIVEN = {"image_column", "boxes_column"}
"""Fields that the bridge fills in."""
_NONE = ""


@dataclass(frozen=True)
class Field:
    """One line of a form.

    Args:
        name: path of the option, its parts joined by `SEPARATOR`.
        kind: "bool", "int", "float", "str", "choice" or "choices".
        default: the value that stands there at first.
        choices: what can be chosen.
        help: what the option does, from its part's docstring.
        required: whether a value has to be given.
    """

    name: str
    kind: str
    default: Any
    choices: tuple[str, ...] = ()
    help: str = ""
    required: bool = False

    @property
    def label(self) -> str:
        """The option's name for people."""
        return self.name.replace(SEPARATOR, " · ").replace("_", " ")


def profiles() -> tuple[str, ...]:
    """The names of the profiles."""
    return tuple(RECIPES)


def fields_of(step: str, profile: str | Profile = "cpu", values: Mapping[str, Any] | None = None) -> list[Field]:
    """The form of a step.

    Args:
        step: "inspect", "caption", "instruct", "anonymize" or "score".
        profile: whose step gives the defaults, by name or as it is.
        values: what was filled in so far; a chosen part adds its own fields.
    """
    return list(_fields(getattr(_profile(profile), step), "", values or {}))


def build(step: str, profile: str | Profile = "cpu", values: Mapping[str, Any] | None = None) -> Step:
    """The step of a filled-in form.

    Raises:
        SetupError: a value that cannot work.
    """
    return _built(getattr(_profile(profile), step), "", values or {})


def build_profile(profile: str | Profile, values: Mapping[str, Any]) -> Profile:
    """The whole profile with the `Anonymize` of a filled-in form."""
    chosen = _profile(profile)
    step = build("anonymize", chosen, values)
    assert isinstance(step, anonymize.Anonymize), "the form of anonymize builds one"
    return dataclasses.replace(chosen, anonymize=step)


def _profile(given: str | Profile) -> Profile:
    return named_profiles.build(given) if isinstance(given, str) else given


def _fields(part: Part, prefix: str, values: Mapping[str, Any]) -> typing.Iterator[Field]:
    helps = argument_docs(type(part))
    for field in _options(part):
        name, value = prefix + field.name, getattr(part, field.name)
        hint = helps.get(field.name, "")
        kind = _kind(type(part), field.name)
        if kind == "step":
            if value is not None:
                yield from _fields(value, name + SEPARATOR, values)
        elif kind in ("part", "parts"):
            yield from _part_fields(_base(type(part), field.name), name, kind, value, hint, values)
        elif kind == "other":
            continue
        elif choices := _CHOICES.get((type(part).__name__, field.name)):
            yield Field(name, "choice", value, choices, hint)
        elif kind == "texts" or kind == "criteria":
            yield Field(name, "str", _NONE, (), f"{hint} (several: joined by commas; empty: as the profile says)")
        else:
            yield Field(name, kind, value, (), hint)


def _part_fields(
    base: type, name: str, kind: str, value: Any, hint: str, values: Mapping[str, Any]
) -> typing.Iterator[Field]:
    entries = _entries(base)
    if kind == "parts":
        default: Any = [_short(p, entries) for p in value]
        yield Field(name, "choices", default, tuple(entries), hint)
        return
    default = _NONE if value is None else _short(value, entries)
    optional = (_NONE,) if value is None else ()
    yield Field(name, "choice", default, (*optional, *entries), hint)
    chosen = values.get(name, default)
    if chosen == default and value is not None:
        yield from _fields(value, name + SEPARATOR, values)
    elif chosen:
        yield from _class_fields(chosen, entries, name + SEPARATOR, values)


def _class_fields(
    chosen: str, entries: Mapping[str, catalog.Entry], prefix: str, values: Mapping[str, Any]
) -> typing.Iterator[Field]:
    """The fields of a part that is yet to be made; those without a default are required."""
    cls, given = _class(chosen, entries)
    helps = argument_docs(cls)
    for field in dataclasses.fields(cls):  # type: ignore[arg-type]
        kind = _kind(cls, field.name)
        if kind not in ("bool", "int", "float", "str") or field.name in given:
            continue
        required = field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING
        default = None if required or field.default is dataclasses.MISSING else field.default
        choices = _CHOICES.get((cls.__name__, field.name))
        shown = ("choice", default, choices) if choices else (kind, default, ())
        yield Field(prefix + field.name, *shown, helps.get(field.name, ""), required)


def _built(part: Any, prefix: str, values: Mapping[str, Any]) -> Any:
    changes: dict[str, Any] = {}
    for field in _options(part):
        name, value, kind = prefix + field.name, getattr(part, field.name), _kind(type(part), field.name)
        if kind == "step":
            changes[field.name] = None if value is None else _built(value, name + SEPARATOR, values)
        elif kind == "part":
            changes[field.name] = _built_part(_base(type(part), field.name), name, value, values)
        elif name not in values or kind == "other":
            continue
        elif kind == "parts":
            base = _base(type(part), field.name)
            entries, current = _entries(base), {_short(own, _entries(base)): own for own in value}
            chosen = [current.get(n) or catalog.make(base.__name__.lower(), n, entries) for n in values[name]]
            changes[field.name] = tuple(chosen)
        else:
            changes |= _plain(field.name, kind, value, values[name])
    return dataclasses.replace(part, **changes)


def _plain(name: str, kind: str, value: Any, given: Any) -> dict[str, Any]:
    if kind in ("texts", "criteria") and not given:
        return {}
    if kind == "criteria":
        named = [one.strip() for one in given.split(",")]
        return {name: load_criteria(named[0] if len(named) == 1 else named)}
    if kind == "texts":
        return {name: given if "," not in given else tuple(one.strip() for one in given.split(","))}
    if given in (None, "") and value is None:
        return {name: None}
    try:
        return {name: {"int": int, "float": float, "bool": bool, "str": str}[kind](given)}
    except (TypeError, ValueError) as error:
        raise SetupError(f"invalid {name}={given!r}; expected a value of type {kind}") from error


def _built_part(base: type, name: str, value: Any, values: Mapping[str, Any]) -> Any:
    kind, entries = base.__name__.lower(), _entries(base)
    default = _NONE if value is None else _short(value, entries)
    chosen = values.get(name, default)
    if not chosen:
        return None
    if chosen == default and value is not None:
        return _built(value, name + SEPARATOR, values)
    cls, _ = _class(chosen, entries)
    prefix = name + SEPARATOR
    given: dict[str, Any] = {}
    for field in dataclasses.fields(cls):  # type: ignore[arg-type]
        if (own := values.get(prefix + field.name)) not in (None, ""):
            given |= _plain(field.name, _kind(cls, field.name), None, own)
    try:
        return catalog.make(kind, chosen, entries, **given)
    except TypeError as error:
        raise SetupError(f"cannot make the {kind} {chosen!r}: {error}; fill in what it needs") from error


def _options(part: Any) -> list[dataclasses.Field]:
    return [field for field in dataclasses.fields(part) if field.name not in _GIVEN]


def _kind(cls: type, name: str) -> str:
    """What a field holds, by its annotation."""
    hint = typing.get_type_hints(cls)[name]
    options = typing.get_args(hint) if typing.get_origin(hint) in (types.UnionType, typing.Union) else (hint,)
    for option in options:
        if name == "criteria":
            return "criteria"
        if typing.get_origin(option) is tuple:
            inner = typing.get_args(option)[0]
            return "parts" if inspect.isclass(inner) and issubclass(inner, Part) else "texts"
        if inspect.isclass(option) and issubclass(option, Step):
            return "step"
        if inspect.isclass(option) and issubclass(option, Part):
            return "part"
    plain = next(option for option in options if option is not type(None))
    return {bool: "bool", int: "int", float: "float", str: "str"}.get(plain, "other")


def _base(cls: type, name: str) -> type:
    """The kind of part that a field takes."""
    hint = typing.get_type_hints(cls)[name]
    options = [inner for one in (hint, *typing.get_args(hint)) for inner in (one, *typing.get_args(one))]
    return next(one for one in options if inspect.isclass(one) and issubclass(one, Part))


@functools.cache
def _entries(base: type) -> dict[str, catalog.Entry]:
    """The parts of the catalog that are of a kind."""
    known = [entries for name, entries in vars(catalog).items() if name[0].isupper() and isinstance(entries, dict)]
    named = {name: entry for entries in known for name, entry in entries.items()}
    return {name: entry for name, entry in named.items() if issubclass(_class(name, named)[0], base)}


def _class(name: str, entries: Mapping[str, catalog.Entry]) -> tuple[type, Mapping[str, Any]]:
    if name not in entries:
        raise SetupError(f"unknown part {name!r}; expected one of: {', '.join(entries)}")
    path, given = entries[name]
    module, _, attribute = path.partition(":")
    return getattr(importlib.import_module(module), attribute), given


def _short(part: Part, entries: Mapping[str, catalog.Entry]) -> str:
    """The first catalog name of a part's class, else the class's own."""
    full = f"{type(part).__module__}:{type(part).__name__}"
    return next((name for name, (path, _) in entries.items() if path == full), type(part).__name__)


def is_heavy(profile_name: str, values: Mapping[str, Any]) -> bool:
    """Whether a filled-in form asks for models, so that the work should not hold the App."""
    models = any(name.endswith("backend") and value for name, value in values.items())
    return models or profile_name != "cpu" or values.get("editor", "redact") not in _REDACTING


_REDACTING = {name for name, (path, _) in catalog.EDITORS.items() if path.endswith(":Redact")}
_NOT_ASKED = {"data", "repo_id", "token", "audit", "work", "secret", "config_name"}


def call_fields(function: typing.Callable[..., Any]) -> list[Field]:
    """A form of a function's plain options: texts, numbers and switches."""
    helps = argument_docs(function)
    found = []
    for name, parameter in inspect.signature(function).parameters.items():
        kind = type(parameter.default).__name__
        if name in _NOT_ASKED or parameter.default is inspect.Parameter.empty:
            continue
        if kind in ("bool", "int", "float", "str"):
            found.append(Field(name, kind, parameter.default, (), helps.get(name, "")))
        elif parameter.default is None and str(parameter.annotation) in ("str | None", "float | None"):
            kind = "float" if "float" in str(parameter.annotation) else "str"
            found.append(Field(name, kind, None, (), helps.get(name, "")))
    return found
