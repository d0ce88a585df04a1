"""What a user typed, as values."""

from __future__ import annotations

import ast
import dataclasses
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from u2s_datasets.errors import SetupError

if TYPE_CHECKING:
    from u2s_datasets.executor.pools import Pool


def names(value: str | None) -> list[str]:
    """["a", "b"] of "a, b"."""
    return [name.strip() for name in (value or "").split(",") if name.strip()]


def given(flag: str, value: str | None) -> list[str] | None:
    """The names, or none where nothing was said. Raises `SetupError` where no name is among what was said."""
    if value is None:
        return None
    if not names(value):
        raise SetupError(f"{flag} {value!r} names nothing; give names, such as A,B, or leave it out")
    return names(value)


def criteria(value: str | None) -> str | list[str] | None:
    """What `--criteria` says: one name or file, or several names."""
    said = given("--criteria", value)
    return said[0] if said and len(said) == 1 else said


def backends(values: Sequence[str] | None) -> str | dict[str, str] | None:
    """What `--backend` says: one for all roles, or ROLE=NAME for each. Raises `SetupError` for both."""
    alone = [value for value in values or () if "=" not in value.partition("://")[0]]
    if alone and len(values or ()) > 1:
        raise SetupError(f"--backend {alone[0]!r} is for all roles; give it alone, or ROLE=NAME for each")
    return alone[0] if alone else by_role("--backend", values) or None


def numbers(option: str, value: str | None) -> list[int]:
    """[1, 8] of "1,8". Raises `SetupError`, naming the option, where one is no whole number."""
    try:
        return [int(number) for number in names(value)]
    except ValueError as error:
        raise SetupError(f"{option}={value!r}: give whole numbers, such as 1,8,32") from error


def options(flag: str, values: Sequence[str] | None) -> dict[str, Any]:
    """{"steps": 28, "lora": "FILE"} of ["steps=28", "lora=FILE"]; numbers, True, False and None as such.

    Raises:
        SetupError: one is no NAME=VALUE.
    """
    found = {}
    for value in values or ():
        name, equals, what = value.partition("=")
        if not (name and equals):
            raise SetupError(f"{flag} {value!r}: say it as NAME=VALUE, such as num_inference_steps=28")
        try:
            found[name] = ast.literal_eval(what)
        except (ValueError, SyntaxError):
            found[name] = what
    return found


def by_role(flag: str, values: Sequence[str] | None) -> dict[str, str]:
    """{"edit": "folder"} of ["edit=folder"]."""
    pairs = [value.partition("=") for value in values or ()]
    for role, equals, what in pairs:
        if not (role and equals and what):
            raise SetupError(f"{flag} {role + equals + what!r}: say it as ROLE=..., such as edit=FOLDER")
    return {role: what for role, _, what in pairs}


def pools(flag: str, values: Sequence[str] | None) -> dict[str, Pool] | None:
    """{"inspect": Pool(size=4, num_gpus=0.5)} of ["inspect:size=4,num_gpus=0.5"]; none where nothing was said.

    Raises:
        SetupError: one is no STAGE:NAME=VALUE, or the name is no field of a pool.
    """
    from u2s_datasets.executor.pools import Pool

    found: dict[str, Pool] = {}
    for value in values or ():
        stage, colon, rest = value.partition(":")
        settings = options(f"{flag} {stage}:", names(rest)) if colon else {}
        known = [field.name for field in dataclasses.fields(Pool)]
        if not (stage and settings) or set(settings) - set(known):
            raise SetupError(
                f"{flag} {value!r}: say it as STAGE:NAME=VALUE,… with the names {', '.join(known)}, "
                "such as anonymize:size=4,num_gpus=0.5"
            )
        found[stage] = dataclasses.replace(found.get(stage, Pool()), **settings)
    return found or None


def add_weights(to: Any) -> None:
    """Add `--model` and `--backend` to a command."""
    to.add_argument(
        "--model",
        action="append",
        metavar="ROLE=ID",
        help="other weights for 'inspect', 'instruct' or 'edit': a folder, a Hub id, or ID@COMMIT; repeat per role",
    )
    to.add_argument(
        "--backend",
        action="append",
        metavar="NAME",
        help="transformers, vllm, or a server's address; ROLE=NAME for one role; default: the profile's",
    )


def add_judgement(to: Any) -> None:
    """Add what a model that judges is told."""
    to.add_argument("--criteria", metavar="A,B", help="names such as people,vispr:health, or a file of one to a line")
    to.add_argument("--threshold", type=float, metavar="T", help="flag from this score of the model on, in (0, 1]")
    to.add_argument("--method", help="choose (weighs TRUE and FALSE) or generate (writes it); default: the profile's")
