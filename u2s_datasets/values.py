"""What a part was given, looked at before the first row: one line that names the value and what to give instead."""

from __future__ import annotations

import math
import numbers
from typing import Any

from u2s_datasets.errors import SetupError


def whole(name: str, value: Any, least: int = 1, most: int | None = None) -> None:
    """Raise `SetupError` unless the value is a whole number from `least` to `most`."""
    sound = isinstance(value, numbers.Integral) and not isinstance(value, bool)
    if not sound or value < least or (most is not None and value > most):
        allowed = f"{least} or more" if most is None else f"{least} to {most}"
        raise SetupError(f"{name}={value!r}: give a whole number, {allowed}")


def number(name: str, value: Any, least: float = -math.inf, above: bool = False) -> None:
    """Raise `SetupError` unless the value is a finite number, at least (or above) `least`."""
    sound = isinstance(value, numbers.Real) and not isinstance(value, bool) and math.isfinite(value)
    if not sound or value < least or (above and value == least):
        allowed = "" if least == -math.inf else f", more than {least:g}" if above else f", {least:g} or more"
        raise SetupError(f"{name}={value!r}: give a number{allowed}")
