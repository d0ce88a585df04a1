"""Whole pictures in small: whether two are alike where they are, and whether one is a remembered other."""

from collections import deque

import cv2
import numpy as np

from u2s_datasets.images.correlation import edges, slide

_THUMBNAIL, _SHIFT = 32, 4  # side of a remembered picture, and by how much it may have moved
_ANOTHER, _MORE_THAN_OWN = 0.6, 0.2  # correlation with another's picture, and above that of one's own with it


def likeness_in_place(before: np.ndarray, after: np.ndarray) -> float:
    """Correlation of the edges of two whole pictures where they are, (H, W, 3) uint8 RGB, in [0, 1]."""
    known = _thumbnail(before)[None, :, _SHIFT:-_SHIFT, _SHIFT:-_SHIFT]
    return float(slide(_thumbnail(after), known, np.ones((1, *known.shape[2:]), np.float32)).max())


class Originals:
    """Small copies of originals, by which an output is known that shows another row's picture.

    Args:
        most: how many are kept; the oldest go first.
    """

    def __init__(self, most: int) -> None:
        self._known: deque[np.ndarray] = deque(maxlen=most)

    def add(self, pixels: np.ndarray) -> None:
        """Remember an original, (H, W, 3) uint8 RGB."""
        self._known.append(_unit(_thumbnail(pixels)[:, _SHIFT:-_SHIFT, _SHIFT:-_SHIFT]))

    def shows_another(self, original: np.ndarray, output: np.ndarray) -> bool:
        """Whether an output is like a remembered picture that its own original is not like: whole, also mirrored,
        turned by quarters, recoloured, or shifted by an eighth.

        Args:
            original, output: (H, W, 3) uint8 RGB of one size.
        """
        if not self._known:
            return False
        known = np.stack(self._known)
        like_output, like_own = _likenesses(output, known), _likenesses(original, known)
        return bool(((like_output >= _ANOTHER) & (like_output >= like_own + _MORE_THAN_OWN)).any())


def _likenesses(pixels: np.ndarray, known: np.ndarray) -> np.ndarray:
    """(N,): the highest correlation of a picture, in each of eight positions, with each remembered one."""
    small = cv2.resize(pixels, (_THUMBNAIL, _THUMBNAIL), interpolation=cv2.INTER_AREA)
    found = np.zeros(len(known))
    for quarters in range(4):
        for mirrored in (False, True):
            turned = np.rot90(small[:, ::-1] if mirrored else small, quarters)
            masks = np.ones((1, *known.shape[2:]), np.float32)
            likeness = slide(_thumbnail(np.ascontiguousarray(turned)), known, masks)
            np.maximum(found, likeness.max(axis=(0, 1)), out=found)
    return found


def _thumbnail(pixels: np.ndarray) -> np.ndarray:
    small = cv2.resize(pixels, (_THUMBNAIL, _THUMBNAIL), interpolation=cv2.INTER_AREA)
    return edges(small.astype(np.float32))


def _unit(feature: np.ndarray) -> np.ndarray:
    return feature / (np.linalg.norm(feature) + 1e-6)
