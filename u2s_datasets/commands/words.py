"""What a user typed, as values."""

from __future__ import annotations

import ast
from collections.abc import Sequence
from typing import Any

from u2s_datasets.errors import SetupError


def names(value: str | None) -> list[str]:
    """["a", "b"] of "a, b"."""
    return [name.strip() for name in (value or "").split(",") if name.strip()]


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
