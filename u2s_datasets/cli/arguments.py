"""What a user typed, as values; and options of a command that are made from a dataclass and its docstring."""

from __future__ import annotations

import argparse
import ast
import dataclasses
import functools
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from u2s_datasets.errors import SetupError
from u2s_datasets.parts.docstrings import argument_docs

if TYPE_CHECKING:
    from u2s_datasets.executor.pools import Pool

_NUMBERS = {"int": int, "int | None": int, "float": float, "float | None": float}
"""Annotation of a field -> what its text is read as."""


@dataclass(frozen=True)
class Flag:
    """How an option is typed, as far as its field does not say it.

    Args:
        name: the flag; "" for the field's name. The flag of a switch that is on by itself turns it off.
        metavar: what stands for the value in the help; "" for the flag in capitals.
        parse: from the flag and what was typed, in a list if it repeats, to the option's value.
        repeats: whether it may be given several times.
        help: in place of the docstring's words.
    """

    name: str = ""
    metavar: str = ""
    parse: Callable[[str, Any], Any] | None = None
    repeats: bool = False
    help: str = ""


@dataclass(frozen=True)
class OptionTable:
    """Options of a dataclass as a command takes them: their flags, their help, their values.

    Args:
        options: a dataclass whose docstring says what each field is.
        flags: field -> how it is typed, for those that need more than their own name.
    """

    options: type
    flags: Mapping[str, Flag]

    def fields(self) -> dict[str, dataclasses.Field[Any]]:
        """Name -> field, in order."""
        return {field.name: field for field in dataclasses.fields(self.options)}

    @functools.cached_property
    def docs(self) -> dict[str, str]:
        """Name -> what the dataclass says of it. Asked for once per option, and read from the text once."""
        return argument_docs(self.options)

    def add(self, to: Any, which: Iterable[str]) -> None:
        """Add options of these names to a parser or to a group of it."""
        fields, docs = self.fields(), self.docs
        for name in which:
            field, (flag, how) = fields[name], self._flag(name)
            # What is not given stays None, so that the dataclass's default holds; the help shows a text or a number.
            text = (how.help or docs[name]).rstrip(".") + ("; may be repeated" if how.repeats else "")
            keywords: dict[str, Any] = {"dest": name, "help": text, "default": None}
            if isinstance(field.default, bool):
                keywords["action"] = "store_false" if field.default else "store_true"
            else:
                metavar = how.metavar or flag.removeprefix("--").replace("-", "_").upper()
                keywords |= {"metavar": metavar, "default": field.default or None}
                keywords |= {"action": "append"} if how.repeats else {"type": _NUMBERS.get(str(field.type))}
            to.add_argument(flag, **keywords)

    def given(self, a: argparse.Namespace, which: Iterable[str]) -> dict[str, Any]:
        """Name -> value of these options, but of those that were not typed and whose default the help does not show."""
        values = {}
        for name in which:
            flag, how = self._flag(name)
            if (typed := getattr(a, name)) is not None:
                values[name] = how.parse(flag, typed) if how.parse else typed
        return values

    def _flag(self, name: str) -> tuple[str, Flag]:
        how = self.flags.get(name, Flag())
        return how.name or f"--{name.replace('_', '-')}", how


def names(value: str | None) -> list[str]:
    """["a", "b"] of "a, b"."""
    return [name.strip() for name in (value or "").split(",") if name.strip()]


def some_names(flag: str, value: str) -> list[str]:
    """As `names`. Raises `SetupError` if there is none."""
    found = names(value)
    if not found:
        raise SetupError(f"{flag} {value!r} names nothing; give names, such as A,B, or leave it out")
    return found


def criteria(flag: str, value: str) -> str | list[str]:
    """One name or file, or several names."""
    found = some_names(flag, value)
    return found[0] if len(found) == 1 else found


def groups(flag: str, value: str) -> tuple[str, ...] | str:
    """ "paper", or the names of demographic groups."""
    found = some_names(flag, value)
    return "paper" if found == ["paper"] else tuple(found)


def backends(flag: str, values: Sequence[str]) -> str | dict[str, str]:
    """One backend for all roles, or {role: backend}. Raises `SetupError` for both."""
    alone = [value for value in values if "=" not in value.partition("://")[0]]  # an address may hold a "="
    if alone and len(values) > 1:
        raise SetupError(f"{flag} {alone[0]!r} is for all roles; give it alone, or ROLE=NAME for each")
    return alone[0] if alone else by_role(flag, values)


def by_role(flag: str, values: Sequence[str]) -> dict[str, str]:
    """{"edit": "folder"} of ["edit=folder"]. Raises `SetupError` for anything but ROLE=… ."""
    pairs = [value.partition("=") for value in values]
    for role, equals, what in pairs:
        if not (role and equals and what):
            raise SetupError(f"invalid {flag} {role + equals + what!r}; expected ROLE=…, such as edit=FOLDER")
    return {role: what for role, _, what in pairs}


def networks(flag: str, values: Sequence[str]) -> dict[str, str]:
    """{"clip": "", "faces": "insightface"} of ["clip", "faces=insightface"]."""
    return {name: weights for name, _, weights in (value.partition("=") for value in values)}


def limits(flag: str, values: Sequence[str]) -> dict[str, float]:
    """{"clip_ratio": 0.7} of ["clip_ratio=0.7"]. Raises `SetupError` for anything but SCORE=NUMBER."""
    found = {}
    for value in values:
        name, _, number = value.partition("=")
        try:
            found[name] = float(number)
        except ValueError as error:
            raise SetupError(f"invalid {flag} {value!r}; expected SCORE=NUMBER, such as clip_ratio=0.7") from error
    return found


def numbers(flag: str, value: str) -> list[int]:
    """[1, 8] of "1,8". Raises `SetupError` for anything but whole numbers."""
    try:
        return [int(number) for number in names(value)]
    except ValueError as error:
        raise SetupError(f"invalid {flag} {value!r}; expected whole numbers, such as 1,8,32") from error


def settings(flag: str, values: Sequence[str]) -> dict[str, Any]:
    """{"steps": 28, "lora": "FILE"} of ["steps=28", "lora=FILE"]; numbers, True, False and None as such.

    Raises:
        SetupError: one is not of the form NAME=VALUE.
    """
    found = {}
    for value in values:
        name, equals, text = value.partition("=")
        if not (name and equals):
            raise SetupError(f"invalid {flag} {value!r}; expected NAME=VALUE, such as num_inference_steps=28")
        try:
            found[name] = ast.literal_eval(text)
        except (ValueError, SyntaxError):
            found[name] = text
    return found


def by_part(flag: str, values: Sequence[str]) -> dict[str, dict[str, Any]]:
    """{"faces": {"flag_threshold": 0.3}} of ["faces.flag_threshold=0.3"]; values as in `settings`.

    Raises:
        SetupError: one is not of the form PART.NAME=VALUE.
    """
    found: dict[str, dict[str, Any]] = {}
    for name, value in settings(flag, values).items():
        part, dot, option = name.rpartition(".")
        if not (part and dot and option):
            raise SetupError(f"invalid {flag} {name!r}; expected DETECTOR.NAME=VALUE, such as faces.flag_threshold=0.3")
        found.setdefault(part, {})[option] = value
    return found


def pools(flag: str, values: Sequence[str]) -> dict[str, Pool]:
    """{"inspect": Pool(size=4, num_gpus=0.5)} of ["inspect:size=4,num_gpus=0.5"].

    Raises:
        SetupError: one is not of the form STAGE:NAME=VALUE, or the name is not a field of a pool.
    """
    from u2s_datasets.executor.pools import Pool

    known = [field.name for field in dataclasses.fields(Pool)]
    found: dict[str, Pool] = {}
    for value in values:
        stage, colon, rest = value.partition(":")
        given = settings(f"{flag} {stage}:", names(rest)) if colon else {}
        if not (stage and given) or set(given) - set(known):
            raise SetupError(
                f"invalid {flag} {value!r}; expected STAGE:NAME=VALUE,… with the names {', '.join(known)}, "
                "such as anonymize:size=4,num_gpus=0.5"
            )
        found[stage] = dataclasses.replace(found.get(stage, Pool()), **given)
    return found
