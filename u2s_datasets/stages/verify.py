"""Law 4: what an edit left behind.

After redaction any face or word that is still found is residue. A rewriting editor rightly shows new people and
new words, so there residue is what is still the original's: a face whose pixels hardly moved, a word that survived.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from rapidfuzz import fuzz

from u2s_datasets.images import clip_box
from u2s_datasets.parts import Box, Detection

MOVED = 10.0
"""Mean absolute change in grey levels below which a region counts as left as it was; JPEG at quality 75 moves fewer."""

SURVIVED = 60.0
"""rapidfuzz ratio, 0 to 100, from which a word of the output counts as a word of the original."""


def remaining(
    found: Sequence[Detection],
    before: np.ndarray,
    after: np.ndarray,
    hidden: Sequence[Detection],
    absolute: bool,
) -> list[Detection]:
    """The residue of an edit: what was found in the output, and what the editor was told to change and did not.

    Args:
        found: detections in the edited image.
        before, after: (H, W, 3) uint8 RGB pixels of the same shape.
        hidden: detections in the original, whose regions were to be changed.
        absolute: everything that is found is residue (redaction).
    """
    if absolute:
        return [*found, *(d for d in hidden if not painted(before, after, d.box))]
    words = [d.text.casefold() for d in hidden if d.text]
    survivors = [
        d for d in found if d.text and any(fuzz.partial_ratio(d.text.casefold(), w) >= SURVIVED for w in words)
    ]
    still = [d for d in found if d not in survivors and not moved(before, after, d.box)]
    return [*(d for d in hidden if not moved(before, after, d.box)), *survivors, *still]


def _survives(text: str, words: Sequence[str]) -> bool:
    return any(fuzz.partial_ratio(text, word) >= SURVIVED for word in words)


def painted(before: np.ndarray, after: np.ndarray, box: Box) -> bool:
    """Whether most pixels of a box are others than before; true for a box that was of one colour, or has no pixel."""
    pair = _crops(before, after, box)
    if pair is None or np.ptp(pair[0], axis=(0, 1)).max() == 0:
        return True
    return bool((pair[0] != pair[1]).any(axis=2).mean() > 0.5)


def moved(before: np.ndarray, after: np.ndarray, box: Box) -> bool:
    """Whether the pixels of a box really changed, on average by `MOVED`; true for a box that has no pixel."""
    pair = _crops(before, after, box)
    return pair is None or float(np.abs(pair[0].astype(np.float32) - pair[1]).mean()) >= MOVED


def _crops(before: np.ndarray, after: np.ndarray, box: Box) -> tuple[np.ndarray, np.ndarray] | None:
    clipped = clip_box(box, (before.shape[1], before.shape[0]))
    if clipped is None:
        return None
    x0, y0, x1, y1 = (round(v) for v in clipped)
    return (before[y0:y1, x0:x1], after[y0:y1, x0:x1]) if x1 > x0 and y1 > y0 else None
