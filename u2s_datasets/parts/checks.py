"""What a part was given, looked at before the first row: one line that names the value and what to give instead."""

from __future__ import annotations

import math
import numbers
from collections.abc import Iterable, Mapping
from typing import Any

from u2s_datasets.errors import SetupError

BACKEND = "u2s.TransformersBackend(model='…')"
"""What to give where a model is asked for."""


def whole(name: str, value: Any, least: int | None = 1, most: int | None = None) -> None:
    """Raise `SetupError` unless the value is a whole number from `least` to `most`."""
    sound = isinstance(value, numbers.Integral) and not isinstance(value, bool)
    if not sound or (least is not None and value < least) or (most is not None and value > most):
        allowed = "" if least is None else f", {least} or more" if most is None else f", {least} to {most}"
        raise SetupError(f"{name}={value!r}: give a whole number{allowed}")


def number(name: str, value: Any, least: float = -math.inf, above: bool = False) -> None:
    """Raise `SetupError` unless the value is a finite number, at least (or above) `least`."""
    sound = isinstance(value, numbers.Real) and not isinstance(value, bool) and math.isfinite(value)
    if not sound or value < least or (above and value == least):
        allowed = "" if least == -math.inf else f", more than {least:g}" if above else f", {least:g} or more"
        raise SetupError(f"{name}={value!r}: give a number{allowed}")


def instance(name: str, value: Any, kind: type, example: str, optional: bool = False) -> None:
    """Raise `SetupError` unless the value is an object of this class, or where `optional` None.

    Its name is none, nor is the class itself.
    """
    if not isinstance(value, kind) and not (optional and value is None):
        raise SetupError(f"{name}={_shown(value)} is no {kind.__name__}; give one, such as {example}")


def instances(name: str, value: Any, kind: type, example: str) -> None:
    """Raise `SetupError` unless the value is a tuple of objects of this class."""
    if not isinstance(value, tuple):
        raise SetupError(f"{name}={_shown(value)} is no tuple; give one, such as ({example},)")
    for one in value:
        instance(name, one, kind, example)


def _shown(value: Any) -> str:
    """A value in an error; of a part or another object its kind alone, since one of its fields may be a key."""
    plain = value is None or isinstance(value, (str, int, float, type))
    return repr(value) if plain else f"{type(value).__name__}(…)"


def names(name: str, value: Iterable[str]) -> list[str]:
    """A list of names; of a single one too, which else would be read letter by letter.

    Raises:
        SetupError: it is no list, or holds something that is no text.
    """
    listed = isinstance(value, Iterable) and not isinstance(value, (bytes, Mapping))
    found = [value] if isinstance(value, str) else list(value) if listed else []
    if not listed or not all(isinstance(one, str) for one in found):
        raise SetupError(f"{name}={value!r}: give a list of names, such as {name}=['a', 'b']")
    return found
