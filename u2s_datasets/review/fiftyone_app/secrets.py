"""Secrets that FiftyOne keeps, lent to the library for the length of one call."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager


@contextmanager
def lent(secrets: Mapping[str, str | None]) -> Iterator[None]:
    """These environment variables, as far as a value is known and none is set; gone again afterwards."""
    new = {name: value for name, value in secrets.items() if value and not os.environ.get(name)}
    os.environ.update(new)
    try:
        yield
    finally:
        for name in new:
            os.environ.pop(name, None)
