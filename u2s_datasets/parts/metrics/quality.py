"""What an edit kept: of the pixels, of how the image looks, of what its caption says. Pure functions on arrays."""

from typing import Any

import numpy as np

_WINDOW = 7
_PAD = _WINDOW // 2
_STRIP = 64  # rows computed at once: more would not fit the processor's cache
_C1, _C2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2

SMALLEST = 16
"""The shortest side, in pixels, of which VGG-16's five stages leave at least one cell."""


def ssim(before: np.ndarray, after: np.ndarray) -> float | None:
    """Structural similarity in colour, range [-1, 1], 1 for identical images; lower means more was changed.

    The mean over pixels and channels of the map with a 7x7 uniform window, sample covariance and a data range of
    255, which is scikit-image's value (Wang et al. 2004; the paper's "cheating" group). Where no pixel of a window
    differs the map is 1, so only the surroundings of changed pixels are computed.

    Args:
        before, after: (H, W, 3) uint8 of the same shape.

    Returns:
        The value; None for different images with a side below 7 pixels, where it is not defined.

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
            crop = np.s_[top - _PAD : bottom + _PAD, left - _PAD : right + _PAD]
            values = _ssim_map(before[crop].astype(np.float64), after[crop].astype(np.float64))
            computed += float(values.sum()) / 3
            count += values.size // 3
    return (total - count + computed) / total


def _ssim_map(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """The map of two (H, W, 3) float64 images, without the border that no whole window covers."""
    import cv2

    def mean(a: np.ndarray) -> np.ndarray:
        return cv2.blur(a, (_WINDOW, _WINDOW))  # ten times as fast as SciPy's uniform_filter

    sample = _WINDOW**2 / (_WINDOW**2 - 1)
    mx, my = mean(x), mean(y)
    covariance = sample * (mean(x * y) - mx * my)
    variances = sample * (mean(x * x) + mean(y * y) - mx * mx - my * my)
    values = (2 * mx * my + _C1) * (2 * covariance + _C2) / ((mx * mx + my * my + _C1) * (variances + _C2))
    return values[_PAD:-_PAD, _PAD:-_PAD]


def lpips(network: Any, before: np.ndarray, after: np.ndarray) -> list[float | None]:
    """Perceived distance of two images, from 0; higher means that more was changed, 0 that nothing was.

    Σ_l mean_hw Σ_c w_lc (f_lhwc(before) - f_lhwc(after))², with f the channel-normalised features of five stages of
    VGG-16 and w the library's linear heads (Zhang et al. 2018; the paper's "cheating" group).

    Args:
        network: `lpips.LPIPS` in evaluation mode: two (N, 3, H, W) tensors in [-1, 1] to (N, 1, 1, 1) distances.
        before, after: (N, H, W, 3) uint8 of the same shape.

    Returns:
        N distances; None for a side below 16 pixels, of which the network's last stage has no cell.

    Raises:
        ValueError: the shapes differ.
    """
    if before.shape != after.shape:
        raise ValueError(f"shapes {before.shape} and {after.shape} differ; LPIPS needs aligned pixels")
    if min(before.shape[1:3]) < SMALLEST:
        return [None] * len(before)
    import torch

    device = next(network.parameters()).device
    with torch.inference_mode():
        distances = network(*(torch.from_numpy(_normalized(images)).to(device) for images in (before, after)))
    return [float(value) for value in distances.flatten().cpu()]


def _normalized(images: np.ndarray) -> np.ndarray:
    """(N, H, W, 3) uint8 as (N, 3, H, W) float32 in [-1, 1], to the last bit what `lpips.im2tensor` makes."""
    return np.ascontiguousarray(images.transpose(0, 3, 1, 2), dtype=np.float32) / np.float32(127.5) - np.float32(1)


def clip_similarity(image: np.ndarray, text: np.ndarray) -> float | None:
    """How well an image fits its public caption, range [-1, 1]; higher means a better fit.

    cos(image, text) = image·text / (|image| |text|) of the two CLIP embeddings (Radford et al. 2021; the paper's
    "quality" group).

    Args:
        image, text: (D,) embeddings of any length.

    Returns:
        The cosine; None where an embedding is zero or not finite.

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
        The ratio; None where a similarity is missing, or where the original's is not above 0, so that nothing can be
        relative to it.
    """
    if edited is None or original is None or original <= 0:
        return None
    return edited / original
