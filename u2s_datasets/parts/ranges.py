"""Numbers of a part, checked before anything is loaded: a slip such as 25 for 0.25 would switch a detector off."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from u2s_datasets.errors import SetupError


def check_range(part: Any, names: Sequence[str], low: float, high: float) -> None:
    """Raise `SetupError` unless these fields, or all their items, are numbers from `low` to `high`, NaN not among them.

    Args:
        part: whose fields they are.
        names: the fields.
        low, high: the least and the greatest value.
    """
    for name in names:
        value = getattr(part, name)
        for number in value if isinstance(value, tuple | list) else (value,):
            if isinstance(number, bool) or not isinstance(number, int | float) or not low <= number <= high:
                raise SetupError(f"{name}={value!r} is not allowed; take a value from {low:g} to {high:g}")
