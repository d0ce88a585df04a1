"""Values given by users, checked before the first row: each error names the value and what was expected instead.

A slip such as 25 for 0.25 would switch a detector off without a sound, so every number has its range.
"""

import math
import numbers
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from u2s_datasets.errors import SetupError

BACKEND = "u2s.TransformersBackend(model='…')"  # the example of a backend for `check_instance`


def check_int(name: str, value: Any, least: int | None = 1, most: int | None = None) -> None:
    """Raise `SetupError` unless the value is an integer from `least` to `most`; None sets no bound."""
    valid = isinstance(value, numbers.Integral) and not isinstance(value, bool)
    if not valid or (least is not None and value < least) or (most is not None and value > most):
        bounds = "" if least is None else f" >= {least}" if most is None else f" from {least} to {most}"
        raise SetupError(f"invalid {name}={value!r}; expected an integer{bounds}")


def check_float(
    name: str, value: Any, least: float = -math.inf, most: float = math.inf, *, above: bool = False
) -> None:
    """Raise `SetupError` unless the value is a finite number from `least` (or just above it, if `above`) to `most`."""
    valid = isinstance(value, numbers.Real) and not isinstance(value, bool) and math.isfinite(value)
    if not valid or not least <= value <= most or (above and value == least):
        low = "" if least == -math.inf else f" {'>' if above else '>='} {least:g}"
        high = "" if most == math.inf else f" and <= {most:g}"
        raise SetupError(f"invalid {name}={value!r}; expected a finite number{low}{high}")


def check_ranges(part: Any, **ranges: tuple[float, float]) -> None:
    """Raise `SetupError` unless these fields of a part, or all their items, are numbers in a range.

    Args:
        part: whose fields they are.
        ranges: field -> the least and the greatest value; `math.inf` sets no bound.
    """
    for name, (low, high) in ranges.items():
        value = getattr(part, name)
        for number in value if isinstance(value, tuple | list) else (value,):
            # Written so that NaN, which compares as False, is refused.
            if isinstance(number, bool) or not isinstance(number, int | float) or not low <= number <= high:
                bounds = f">= {low:g}" if high == math.inf else f"from {low:g} to {high:g}"
                raise SetupError(f"invalid {name}={value!r}; expected a number {bounds}")


def check_choice(name: str, value: Any, choices: Sequence[str]) -> None:
    """Raise `SetupError` unless the value is one of the choices."""
    if value not in choices:
        raise SetupError(f"unknown {name} {value!r}; expected one of: {', '.join(choices)}")


def check_instance(name: str, value: Any, kind: type, example: str, optional: bool = False) -> None:
    """Raise `SetupError` unless the value is an object of this class, or None if `optional`.

    A catalog name is refused, and so is the class itself.
    """
    if not isinstance(value, kind) and not (optional and value is None):
        raise SetupError(
            f"invalid {name}={_show(value)}; expected an object of class {kind.__name__}, such as {example}"
        )


def check_instances(name: str, value: Any, kind: type, example: str) -> None:
    """Raise `SetupError` unless the value is a tuple of objects of this class."""
    if not isinstance(value, tuple):
        raise SetupError(f"invalid {name}={_show(value)}; expected a tuple such as ({example},)")
    for item in value:
        check_instance(name, item, kind, example)


def check_names(name: str, value: Iterable[str]) -> list[str]:
    """The value as a list of names. A single name becomes a list of one; iterated, it would fall into letters.

    Raises:
        SetupError: the value is not a list, or one of its items is not a text.
    """
    iterable = isinstance(value, Iterable) and not isinstance(value, (bytes, Mapping))
    names = [value] if isinstance(value, str) else list(value) if iterable else []
    if not iterable or not all(isinstance(item, str) for item in names):
        raise SetupError(f"invalid {name}={value!r}; expected a list of names such as {name}=['a', 'b']")
    return names


def _show(value: Any) -> str:
    """A value for an error message; of an object only its class, since one of its fields may be a key."""
    plain = value is None or isinstance(value, (str, int, float, type))
    return repr(value) if plain else f"{type(value).__name__}(…)"
