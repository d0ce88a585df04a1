"""Laws 4 and 9: what an edit left behind.

After redaction any face or word that is still found is residue. A rewriting editor rightly shows new people and new
words, so there residue is what is still the original's: a region that is a copy of what it was, a word that survived.
"""

from collections.abc import Sequence

import cv2
import numpy as np
from rapidfuzz import fuzz

from u2s_datasets.images import Outline, clip_box, copies
from u2s_datasets.images.shapes import pixels_of
from u2s_datasets.parts import Box, Detection

MIN_CHANGE = 10.0  # mean absolute change of a changed region, in grey levels; JPEG at quality 75 changes fewer
MAX_CORRELATION = 0.95  # of a changed region; above it is what it was, brighter or paler, as after an autoencoder
MIN_WORD_RATIO = 60.0  # rapidfuzz ratio, 0 to 100, from which a word of the output counts as one of the original
TILES = 4  # per side of a whole image

WHOLE_IMAGE = "image"  # category of an image that was flagged without a box, and came back as it was


def find_residue(
    found: Sequence[Detection],
    before: np.ndarray,
    after: np.ndarray,
    hidden: Sequence[Detection],
    absolute: bool,
    ours: bool = True,
) -> list[Detection]:
    """The residue of an edit: what was found in the output, and what the editor was to change and did not.

    Args:
        found: detections in the edited image.
        before, after: (H, W, 3) uint8 RGB pixels of the same shape.
        hidden: detections in the original whose regions were to be changed; `whole_image` for all of it.
        absolute: everything that is found is residue (redaction).
        ours: the editor is this package's own redaction, which paints boxes; of others less is believed.
    """
    if absolute:
        gone = [
            is_hidden(before, after, d.box, d.outline) if ours else is_hidden_by_others(before, after, d.box)
            for d in hidden
        ]
        return [*found, *(d for d, is_gone in zip(hidden, gone, strict=True) if not is_gone)]
    words = [d.text.casefold() for d in hidden if d.text]
    survivors = [
        d
        for d in found
        if d.text and any(fuzz.partial_ratio(d.text.casefold(), word) >= MIN_WORD_RATIO for word in words)
    ]
    unchanged = [d for d in found if d not in survivors and not has_changed(before, after, d.box)]
    return [*_not_rewritten(before, after, hidden, found), *survivors, *unchanged]


def _not_rewritten(
    before: np.ndarray, after: np.ndarray, hidden: Sequence[Detection], found: Sequence[Detection]
) -> list[Detection]:
    """What a rewriting editor was to change and is not proven to have changed (law 9)."""
    whole = [d for d in hidden if d.category == WHOLE_IMAGE and not has_changed_anywhere(before, after)]
    placed = [d for d in hidden if d.category != WHOLE_IMAGE]
    left = [d for d in placed if not has_changed(before, after, d.box)]
    changed = [d for d in placed if d not in left]
    copied = copies.find_copies(before, after, [d.box for d in changed], [d.box for d in found])
    return [*whole, *left, *(d for d, is_copy in zip(changed, copied, strict=True) if is_copy)]


def whole_image(pixels: np.ndarray) -> Detection:
    """All of an image, for one that was flagged without a box."""
    return Detection(WHOLE_IMAGE, (0.0, 0.0, float(pixels.shape[1]), float(pixels.shape[0])), 1.0)


def is_hidden(before: np.ndarray, after: np.ndarray, box: Box, outline: Outline | None = None) -> bool:
    """Whether redaction hid a box: most pixels that showed something differ, and none of their detail is left.

    A pixel that was like its neighbours showed nothing: on a clean page, the fill is the paper again.
    True also for a box that was of one colour; False for one outside the image.

    Args:
        before, after: (H, W, 3) uint8 RGB of one size.
        box: what was hidden.
        outline: the part of the box that was to be hidden; None for all of it.
    """
    clipped = clip_box(box, (before.shape[1], before.shape[0]))
    if clipped is None:
        return False
    at = _nearest_pixels(clipped[1], clipped[3]), _nearest_pixels(clipped[0], clipped[2])
    old, new = before[at], after[at]
    asked = np.ones(old.shape[:2], bool) if outline is None else _inside(outline, at, old.shape)
    shown = (old != cv2.blur(old, (3, 3))).any(axis=2) & asked
    if not shown.any():
        return True
    if (old != new).any(axis=2)[shown].mean() <= 0.5:
        return False
    return not copies.detail_stays(before, after, clipped, asked if outline else None)


def _inside(outline: Outline, at: tuple[slice, slice], shape: tuple[int, ...]) -> np.ndarray:
    """The pixels of a crop that an outline touches, (h, w) bool; all of them where it touches none."""
    moved = tuple((x - at[1].start, y - at[0].start) for x, y in outline)
    (x0, y0, x1, y1), touched = pixels_of((moved,), (shape[1], shape[0]))
    inside = np.zeros(shape[:2], bool)
    inside[y0:y1, x0:x1] = touched
    return inside if inside.any() else ~inside


def is_hidden_by_others(before: np.ndarray, after: np.ndarray, box: Box) -> bool:
    """Whether a redacting editor of others hid a box: as `is_hidden`, it really changed, and is no copy in place."""
    if not (is_hidden(before, after, box) and has_changed(before, after, box)):
        return False
    clipped = clip_box(box, (before.shape[1], before.shape[0]))
    return clipped is not None and not copies.stays_in_place(before, after, clipped)


def has_changed(before: np.ndarray, after: np.ndarray, box: Box) -> bool:
    """Whether the pixels of a box really changed: by `MIN_CHANGE` on average, and not in tone alone.

    False for a box outside the image: nothing shows that what was meant by it is gone.
    """
    pair = _crops(before, after, box)
    if pair is None:
        return False
    old, new = (crop.astype(np.float32) for crop in pair)
    return float(np.abs(old - new).mean()) >= MIN_CHANGE and correlation(old, new) < MAX_CORRELATION


def correlation(old: np.ndarray, new: np.ndarray) -> float:
    """Correlation of two crops (H, W, 3), in [-1, 1], with the mean of each channel taken off.

    It is 1 where new = gain · old + offset with a positive gain, and 0 if one of them is of one colour.
    """
    old, new = old - old.mean(axis=(0, 1)), new - new.mean(axis=(0, 1))
    scale = float(np.sqrt((old**2).sum() * (new**2).sum()))
    return float((old * new).sum()) / scale if scale > 0 else 0.0


def has_changed_anywhere(before: np.ndarray, after: np.ndarray) -> bool:
    """Whether a sixteenth of an image, or more, really changed and did not just move: one of 4 × 4 tiles.

    A tile that showed nothing, such as a clear sky, tells nothing: inverted it has changed, and is no copy either.
    """
    height, width = before.shape[0] / TILES, before.shape[1] / TILES
    corners = [(x * width, y * height) for x in range(TILES) for y in range(TILES)]
    tiles = [(x, y, x + width, y + height) for x, y in corners]
    shown = [tile for tile in tiles if not copies.is_flat(before, tile)]
    return any(has_changed(before, after, t) and not copies.find_copies(before, after, [t])[0] for t in shown)


def _crops(before: np.ndarray, after: np.ndarray, box: Box) -> tuple[np.ndarray, np.ndarray] | None:
    clipped = clip_box(box, (before.shape[1], before.shape[0]))
    if clipped is None:
        return None
    inside = _nearest_pixels(clipped[1], clipped[3]), _nearest_pixels(clipped[0], clipped[2])
    return before[inside], after[inside]


def _nearest_pixels(low: float, high: float) -> slice:
    """The pixels nearest to an interval; for one thinner than a pixel, the pixel that it lies in."""
    first, end = round(low), round(high)
    return slice(first, end) if end > first else slice(int(low), int(low) + 1)
