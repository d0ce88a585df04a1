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
    originals: Sequence[Detection],
    absolute: bool,
) -> list[Detection]:
    """The residue among what was found in an edited image.

    Args:
        found: detections in the edited image.
        before, after: (H, W, 3) uint8 RGB pixels of the same shape.
        originals: detections in the original.
        absolute: everything that is found is residue (redaction).
    """
    if absolute:
        return list(found)
    left = [d for d in originals if not moved(before, after, d.box)]
    words = [d.text.casefold() for d in originals if d.text]
    survivors = [d for d in found if d.text and any(fuzz.ratio(d.text.casefold(), w) >= SURVIVED for w in words)]
    still = [d for d in found if not d.text and not moved(before, after, d.box)]
    return [*left, *survivors, *still]


def moved(before: np.ndarray, after: np.ndarray, box: Box) -> bool:
    """Whether the pixels of a box really changed. A box without pixels counts as moved: it shows nothing."""
    clipped = clip_box(box, (before.shape[1], before.shape[0]))
    if clipped is None:
        return True
    x0, y0, x1, y1 = (round(v) for v in clipped)
    a, b = before[y0:y1, x0:x1].astype(np.float32), after[y0:y1, x0:x1].astype(np.float32)
    return a.size == 0 or float(np.abs(a - b).mean()) >= MOVED
