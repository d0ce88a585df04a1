"""How much of the picture an edit kept. Pure functions on arrays."""

from __future__ import annotations

import numpy as np

_WINDOW = 7
_PAD = _WINDOW // 2


def ssim(before: np.ndarray, after: np.ndarray) -> float | None:
    """Structural similarity in colour, range [-1, 1], 1 for identical images; lower means more was changed.

    The mean over pixels and channels of scikit-image's map with its 7x7 uniform window and a data range of 255
    (Wang et al. 2004; the paper's "cheating" group). Where no pixel of a window differs the map is 1, so only the
    surroundings of changed pixels are computed: the same value for a fraction of the work.

    Args:
        before, after: (H, W, 3) uint8 of the same shape.

    Returns:
        The value; none for different images with a side below 7 pixels, where it is not defined.

    Raises:
        ValueError: the shapes differ.
    """
    if before.shape != after.shape:
        raise ValueError(f"shapes {before.shape} and {after.shape} differ; SSIM needs aligned pixels")
    changed = (before != after).any(axis=2)
    if not changed.any():
        return 1.0
    height, width = changed.shape
    if min(height, width) < _WINDOW:
        return None
    rows, cols = _extent(changed.any(axis=1), _PAD), _extent(changed.any(axis=0), _PAD)
    total = (height - 2 * _PAD) * (width - 2 * _PAD)
    inside, count = _map_sum(before, after, rows, cols)
    return (total - count + inside) / total


def _extent(changed: np.ndarray, pad: int) -> tuple[int, int]:
    """Start and end of the true stretch, grown by `pad` and clipped to the pixels that the mean is taken over."""
    index = np.flatnonzero(changed)
    return max(int(index[0]) - pad, _PAD), min(int(index[-1]) + 1 + pad, len(changed) - _PAD)


def _map_sum(
    before: np.ndarray, after: np.ndarray, rows: tuple[int, int], cols: tuple[int, int]
) -> tuple[float, int]:
    from skimage.metrics import structural_similarity

    (top, bottom), (left, right) = rows, cols
    if bottom <= top or right <= left:
        return 0.0, 0
    crop = np.s_[top - _PAD : bottom + _PAD, left - _PAD : right + _PAD]
    _, full = structural_similarity(
        before[crop], after[crop], win_size=_WINDOW, channel_axis=2, data_range=255, full=True
    )
    inner = full[_PAD:-_PAD, _PAD:-_PAD]
    return float(inner.mean(axis=2).sum()), inner.shape[0] * inner.shape[1]
