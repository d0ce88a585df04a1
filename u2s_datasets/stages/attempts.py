"""What a row's provenance says of its last edit."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from u2s_datasets import columns


def last_attempt(fields: Mapping[str, Any]) -> dict[str, Any] | None:
    """The record of the last attempt that changed pixels, as `Anonymize` wrote it; none for a row without an edit.

    "redacts" is whether that editor shows nothing in place of what it hid, so that any face or word that is still
    found is residue; "residue" is what verification still found.

    Raises:
        ValueError: the provenance is no such JSON.
    """
    try:
        attempts = json.loads(fields.get(columns.PROVENANCE) or "{}").get("attempts") or []
        return {**attempts[-1]} if attempts else None
    except (AttributeError, TypeError, KeyError) as error:
        raise ValueError("no provenance of this package") from error


def absolute(fields: Mapping[str, Any]) -> bool:
    """Whether any face or word in the row's image is residue (law 4): not after a rewriting editor, else yes.

    Where nothing tells, it is: a row without a record of its edit is judged like a redacted one.
    """
    try:
        attempt = last_attempt(fields)
    except ValueError:
        return True
    return attempt is None or attempt.get("redacts") is not False
