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

ALIKE = 0.95
"""Correlation from which a region shows what it showed, brighter or paler: an autoencoder's way there and back."""

WHOLE = "image"
"""Category of a whole image that was flagged without saying where, and came back as it was."""

_TILES = 4

SURVIVED = 60.0
"""rapidfuzz ratio, 0 to 100, from which a word of the output counts as a word of the original."""


def remaining(
    found: Sequence[Detection],
    before: np.ndarray,
    after: np.ndarray,
    hidden: Sequence[Detection],
    absolute: bool,
    obedient: bool = True,
) -> list[Detection]:
    """The residue of an edit: what was found in the output, and what the editor was told to change and did not.

    Args:
        found: detections in the edited image.
        before, after: (H, W, 3) uint8 RGB pixels of the same shape.
        hidden: detections in the original, whose regions were to be changed; `whole` for all of it.
        absolute: everything that is found is residue (redaction).
        obedient: the editor painted the boxes that it was given; of any other, some changed pixels prove nothing.
    """
    if absolute:
        covered = painted if obedient else moved
        return [*found, *(d for d in hidden if not covered(before, after, d.box))]
    words = [d.text.casefold() for d in hidden if d.text]
    survivors = [d for d in found if d.text and _survives(d.text.casefold(), words)]
    still = [d for d in found if d not in survivors and not moved(before, after, d.box)]
    return [*(d for d in hidden if _left(before, after, d)), *survivors, *still]


def whole(pixels: np.ndarray) -> Detection:
    """All of a picture, for one that was flagged without saying where."""
    return Detection(WHOLE, (0.0, 0.0, float(pixels.shape[1]), float(pixels.shape[0])), 1.0)


def _survives(text: str, words: Sequence[str]) -> bool:
    return any(fuzz.partial_ratio(text, word) >= SURVIVED for word in words)


def _left(before: np.ndarray, after: np.ndarray, hidden: Detection) -> bool:
    return not (changed(before, after) if hidden.category == WHOLE else moved(before, after, hidden.box))


def painted(before: np.ndarray, after: np.ndarray, box: Box) -> bool:
    """Whether most pixels of a box are others than before, or were of one colour; false for a box outside the image."""
    pair = _crops(before, after, box)
    if pair is None:
        return False
    return bool(np.ptp(pair[0], axis=(0, 1)).max() == 0 or (pair[0] != pair[1]).any(axis=2).mean() > 0.5)


def moved(before: np.ndarray, after: np.ndarray, box: Box) -> bool:
    """Whether the pixels of a box really changed: on average by `MOVED`, and not in tone alone.

    False for a box outside the image: nothing shows that what was meant by it is gone.
    """
    pair = _crops(before, after, box)
    if pair is None:
        return False
    old, new = (crop.astype(np.float32) for crop in pair)
    return float(np.abs(old - new).mean()) >= MOVED and alike(old, new) < ALIKE


def alike(old: np.ndarray, new: np.ndarray) -> float:
    """Correlation of two crops (H, W, 3), in [-1, 1], each channel apart from its mean: 1 where new = gain · old +
    offset with a positive gain. 0 where one of them is of one colour."""
    old, new = old - old.mean(axis=(0, 1)), new - new.mean(axis=(0, 1))
    scale = float(np.sqrt((old**2).sum() * (new**2).sum()))
    return float((old * new).sum()) / scale if scale > 0 else 0.0


def changed(before: np.ndarray, after: np.ndarray) -> bool:
    """Whether a sixteenth of a picture, or more, really changed: one of 4 × 4 tiles `moved`."""
    height, width = before.shape[0] / _TILES, before.shape[1] / _TILES
    corners = [(x * width, y * height) for x in range(_TILES) for y in range(_TILES)]
    tiles = [(x, y, x + width, y + height) for x, y in corners]
    return any(moved(before, after, tile) for tile in tiles)


def _crops(before: np.ndarray, after: np.ndarray, box: Box) -> tuple[np.ndarray, np.ndarray] | None:
    clipped = clip_box(box, (before.shape[1], before.shape[0]))
    if clipped is None:
        return None
    inside = _whole_pixels(clipped[1], clipped[3]), _whole_pixels(clipped[0], clipped[2])
    return before[inside], after[inside]


def _whole_pixels(low: float, high: float) -> slice:
    """The pixels nearest to a stretch, and of one that is thinner than a pixel the one that it lies in."""
    first, end = round(low), round(high)
    return slice(first, end) if end > first else slice(int(low), int(low) + 1)
