"""What an edit kept: of the pixels, and of what the caption says. Pure functions on arrays."""

from __future__ import annotations

import numpy as np

_WINDOW = 7
_PAD = _WINDOW // 2
_STRIP = 64  # rows computed at once: more would not fit the processor's cache
_C1, _C2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2


def ssim(before: np.ndarray, after: np.ndarray) -> float | None:
    """Structural similarity in colour, range [-1, 1], 1 for identical images; lower means more was changed.

    The mean over pixels and channels of the map with a 7x7 uniform window, sample covariance and a data range of
    255, which is scikit-image's value (Wang et al. 2004; the paper's "cheating" group). Where no pixel of a window
    differs the map is 1, so only the surroundings of changed pixels are computed.

    Args:
        before, after: (H, W, 3) uint8 of the same shape.

    Returns:
        The value; none for different images with a side below 7 pixels, where it is not defined.

    Raises:
        ValueError: the shapes differ.
    """
    if before.shape != after.shape:
        raise ValueError(f"shapes {before.shape} and {after.shape} differ; SSIM needs aligned pixels")
    red, green, blue = np.moveaxis(before != after, 2, 0)
    changed = red | green | blue  # a third of the time of any(axis=2)
    if not changed.any():
        return 1.0
    height, width = changed.shape
    if min(height, width) < _WINDOW:
        return None
    total = (height - 2 * _PAD) * (width - 2 * _PAD)
    computed, count = 0.0, 0
    for top in range(_PAD, height - _PAD, _STRIP):
        bottom = min(top + _STRIP, height - _PAD)
        columns = np.flatnonzero(changed[top - _PAD : bottom + _PAD].any(axis=0))
        if len(columns):
            left, right = max(int(columns[0]) - _PAD, _PAD), min(int(columns[-1]) + 1 + _PAD, width - _PAD)
            values = _map_of(before, after, top, bottom, left, right)
            computed += float(values.sum()) / 3
            count += values.size // 3
    return (total - count + computed) / total


def clip_similarity(image: np.ndarray, text: np.ndarray) -> float | None:
    """How well an image fits its public caption, range [-1, 1]; higher means a better fit.

    cos(image, text) = image·text / (|image| |text|) of the two CLIP embeddings (Radford et al. 2021; the paper's
    "quality" group).

    Args:
        image, text: (D,) embeddings of any length.

    Returns:
        The cosine; none where an embedding is zero or holds a value that is no number.

    Raises:
        ValueError: the shapes differ.
    """
    first, second = np.asarray(image, np.float64), np.asarray(text, np.float64)
    if first.shape != second.shape:
        raise ValueError(f"embeddings of shapes {first.shape} and {second.shape} differ; take both from one encoder")
    length = float(np.linalg.norm(first) * np.linalg.norm(second))
    if not np.isfinite(length) or length == 0:
        return None
    return min(1.0, max(-1.0, float(first @ second) / length))


def clip_ratio(edited: float | None, original: float | None) -> float | None:
    """The edited image's fit to the public caption relative to the original's, from 0; higher is better, 1 is as good.

    clip_similarity(edited, caption) / clip_similarity(original, caption): the paper keeps pairs above 0.7 (S1.2).

    Returns:
        The ratio; none where a similarity is missing, or the original's is not above 0 and nothing can be relative
        to it.
    """
    if edited is None or original is None or original <= 0:
        return None
    return edited / original


def _map_of(before: np.ndarray, after: np.ndarray, top: int, bottom: int, left: int, right: int) -> np.ndarray:
    """The map's values in a rectangle, which may be empty."""
    crop = np.s_[top - _PAD : bottom + _PAD, left - _PAD : right + _PAD]
    if right <= left:
        return np.zeros((0, 0, 3))
    return _map(before[crop].astype(np.float64), after[crop].astype(np.float64))[_PAD:-_PAD, _PAD:-_PAD]


def _map(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """The map of (H, W, 3) float64 images; OpenCV's box filter is ten times as fast as SciPy's."""
    import cv2

    def mean(a: np.ndarray) -> np.ndarray:
        return cv2.blur(a, (_WINDOW, _WINDOW))

    sample = _WINDOW**2 / (_WINDOW**2 - 1)
    mx, my = mean(x), mean(y)
    covariance = sample * (mean(x * y) - mx * my)
    variances = sample * (mean(x * x) + mean(y * y) - mx * mx - my * my)
    return (2 * mx * my + _C1) * (2 * covariance + _C2) / ((mx * mx + my * my + _C1) * (variances + _C2))
