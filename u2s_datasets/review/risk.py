"""How likely a published row still shows something private, for the order of a review. No proof, no probability."""

import json
from collections.abc import Mapping
from typing import Any

from u2s_datasets import columns as c

UNVERIFIED = 0.9
"""Least risk of a row whose output nobody inspected."""


def residual_risk(row: Mapping[str, Any]) -> float | None:
    """A row's place in the queue, in [0, 1], the highest first; None for a withheld row.

    1 where the last look still found a face or a word. Else the highest of: 0.9 if the output was not inspected again;
    the likeness of faces and of words to the original's; for a row that was not flagged, how sure the inspection
    was that it is private; for an edited row half of that, and 1 - 1/k if it took k attempts.
    """
    if row.get(c.STATUS) not in (c.SAFE, c.ANONYMIZED):
        return None
    if (row.get(c.RESIDUAL_FACES) or 0) + (row.get(c.RESIDUAL_TEXT) or 0) > 0:
        return 1.0
    facts = json.loads(row.get(c.PROVENANCE) or "{}")
    suspicion = float(row.get(c.PRIVACY_SCORE) or 0.0)
    likeness = [float(row.get(name) or 0.0) for name in (c.FACE_SIMILARITY, c.TEXT_SIMILARITY)]
    attempts = max(1, len(facts.get("attempts") or ()))
    edited = row[c.STATUS] == c.ANONYMIZED
    own = [suspicion / 2, 1 - 1 / attempts] if edited else [suspicion]
    return min(1.0, max(0.0 if facts.get("verified") else UNVERIFIED, *likeness, *own))
