"""Whether two images are the same by blocks, after whatever was done to all of one."""

import contextlib
from collections.abc import Iterator, Sequence

import cv2
import numpy as np
from PIL import Image

from u2s_datasets.images import copies, originals
from u2s_datasets.images.correlation import Motion
from u2s_datasets.images.geometry import Box, clip_box

BLOCK = 8
"""Pixels per side of a block."""
UNTOUCHED = 16.0
"""Grey levels. If every block's mean difference is below, the image was compressed again and not edited: in 99 real
photos JPEG 95 changed no block by more than 6, and each of 74 redactions changed one by more than 90."""

_LARGEST = 640  # pixels of the longer side at which pictures are brought back and compared
_LIKE = 0.5  # correlation of edges from which a position is tried
_IN_PLACE = 3.0  # grey levels of the median block, below which a picture was not moved
_CLOSELY = 192  # pixels of the longer side at which pictures are aligned
_SMOOTH = 1.0  # pixels; resizing and compression change the finest detail
_MORE_THAN_MOST = 3.0  # times the median block


def untouched(before: Image.Image, after: Image.Image) -> bool:
    """Whether an image shows its original and no part of it was edited, whatever was done to all of it.

    It may have been compressed, brightened, recoloured, made noisy, scaled, cropped a little, turned or mirrored:
    it is brought back as well as can be, and then no block may differ by much more than most do.
    """
    if before.size == after.size and largest_block(before, after) < UNTOUCHED:
        return True
    # Enlarged again, a small copy lacks the detail of its original: they are compared at the smaller size.
    largest = min(_LARGEST, max(before.size), max(after.size))
    pictures = np.asarray(before.convert("RGB")), np.asarray(after.convert("RGB").resize(before.size))
    for pair in _brought_back(*pictures, largest):
        blocks = _blocks_left(*pair)
        most = float(np.median(blocks))
        if blocks.max() < UNTOUCHED + _MORE_THAN_MOST * most:
            return True
        if most < _IN_PLACE:  # most of it is where it was, so what differs was edited
            return False
    return False


def left_in_place(before: Image.Image, after: Image.Image, boxes: Sequence[Box], blurred: bool = False) -> bool:
    """Whether something that stood in a box of the original can still be seen there in an edited image.

    Args:
        before, after: RGB images; another size of `after` is brought back.
        boxes: (x0, y0, x1, y1) in pixels of `before`.
        blurred: the boxes were blurred or pixelated on purpose: only their detail must be gone.
    """
    old = np.asarray(before.convert("RGB"))
    new = np.asarray(after.convert("RGB").resize(before.size))
    stays = copies.detail_stays if blurred else copies.stays_in_place
    clipped = [clip_box(box, before.size) for box in boxes]
    return any(stays(old, new, box) for box in clipped if box is not None)


def _brought_back(before: np.ndarray, after: np.ndarray, largest: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Pairs of uint8 pictures at the likeliest positions of the output, with a longer side of `largest` pixels."""
    zoom = largest / max(before.shape[:2])
    size = round(before.shape[1] * zoom), round(before.shape[0] * zoom)
    before, after = (cv2.resize(p, size, interpolation=cv2.INTER_AREA) for p in (before, after))
    turns = [np.rot90(after[:, ::step], quarters) for step in (1, -1) for quarters in range(4)]
    upright = [cv2.resize(np.ascontiguousarray(turned), size, interpolation=cv2.INTER_AREA) for turned in turns]
    likeness = [originals.likeness_in_place(before, turned) for turned in upright]
    best = upright[int(np.argmax(likeness))]
    if max(likeness) >= _LIKE:
        yield before, best
    for motion in copies.whole_moves(before, best, most=1):
        if motion.likeness >= _LIKE:
            yield before, _aligned(before, best, motion)


def _aligned(before: np.ndarray, after: np.ndarray, motion: Motion) -> np.ndarray:
    """The output moved onto the original, first by a motion of its middle, then as closely as it goes."""
    height, width = before.shape[:2]
    matrix = motion.matrix
    zoom = min(_CLOSELY / max(height, width), 1.0)
    offset = np.array(motion.place) - matrix @ [width / 2, height / 2]
    found = np.hstack([matrix, zoom * offset[:, None]]).astype(np.float32)
    grey = [
        cv2.resize(cv2.cvtColor(p, cv2.COLOR_RGB2GRAY), None, fx=zoom, fy=zoom, interpolation=cv2.INTER_AREA)
        for p in (before, after)
    ]
    stop = (cv2.TERM_CRITERIA_EPS | cv2.TERM_CRITERIA_COUNT, 60, 1e-5)
    with contextlib.suppress(cv2.error):  # it did not converge: the tones are inverted, say
        closer = cv2.findTransformECC(grey[0], grey[1], found, cv2.MOTION_AFFINE, stop, np.empty(0, np.uint8), 3)[1]
        found = np.asarray(closer, np.float32)
    found[:, 2] /= zoom
    how = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    return cv2.warpAffine(after, found, (width, height), flags=how, borderMode=cv2.BORDER_REPLICATE)


def _blocks_left(before: np.ndarray, after: np.ndarray) -> np.ndarray:
    """By how many grey levels each block differs once tones and colours are brought back."""
    old, new = (cv2.GaussianBlur(p.astype(np.float32), (0, 0), _SMOOTH) / 255 for p in (before, after))
    if _colour(new) < 0.3 * _colour(old):  # what was made grey is compared in grey
        old = (old @ np.array([0.299, 0.587, 0.114], np.float32))[..., None]
    known = np.concatenate([new, new**2, new**3, np.ones_like(new[..., :1])], axis=2).reshape(-1, 10)
    target = old.reshape(-1, old.shape[2])
    step = max(len(known) // 20000, 1)
    weights = np.linalg.lstsq(known[::step], target[::step], rcond=None)[0]
    left = 255 * np.abs(target - known @ weights).max(axis=1).reshape(old.shape[:2])
    rim = max(round(0.06 * min(left.shape)), 1)  # moving a picture loses its rim
    return _blocks(left[rim:-rim, rim:-rim])


def _colour(pixels: np.ndarray) -> float:
    """How far from grey a picture is, on average."""
    return float((pixels.max(axis=2) - pixels.min(axis=2)).mean())


def largest_block(before: Image.Image, after: Image.Image) -> float:
    """The largest mean absolute difference over blocks, in grey levels of 0 to 255."""
    difference = np.abs(np.asarray(before.convert("RGB"), np.int16) - np.asarray(after.convert("RGB"), np.int16))
    flat = difference.max(axis=2).astype(np.float32)
    return float(_blocks(flat).max())


def _blocks(flat: np.ndarray) -> np.ndarray:
    flat = np.pad(flat, ((0, -flat.shape[0] % BLOCK), (0, -flat.shape[1] % BLOCK)), mode="edge")
    blocks = flat.reshape(flat.shape[0] // BLOCK, BLOCK, flat.shape[1] // BLOCK, BLOCK)
    return np.asarray(blocks.mean(axis=(1, 3)))
