"""What `make test` leaves to `make test-slow`."""

from collections.abc import Iterable
from typing import Any

import pytest


def mostly_slow(values: Iterable[Any], *quick: Any) -> list[Any]:
    """These values for `parametrize`; all but the quick ones are for `make test-slow`."""
    return [value if value in quick else pytest.param(value, marks=pytest.mark.slow) for value in values]
