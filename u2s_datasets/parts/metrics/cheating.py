"""Whether an edit only copied its original: LPIPS. SSIM, the other one of this group, is in `quality`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

SMALLEST = 16
"""The shortest side, in pixels, of which VGG-16's five stages leave at least one cell."""


def lpips(network: Callable[..., Any], before: np.ndarray, after: np.ndarray) -> list[float | None]:
    """Perceived distance of two images, from 0; higher means that more was changed, 0 that nothing was.

    Σ_l mean_hw Σ_c w_lc (f_lhwc(before) - f_lhwc(after))², with f the channel-normalised features of five stages of
    VGG-16 and w the library's linear heads (Zhang et al. 2018; the paper's "cheating" group).

    Args:
        network: `lpips.LPIPS` in evaluation mode: two (N, 3, H, W) tensors in [-1, 1] to (N, 1, 1, 1) distances.
        before, after: (N, H, W, 3) uint8 of the same shape.

    Returns:
        N distances; none for a side below 16 pixels, of which the network's last stage has no cell.

    Raises:
        ValueError: the shapes differ.
    """
    if before.shape != after.shape:
        raise ValueError(f"shapes {before.shape} and {after.shape} differ; LPIPS needs aligned pixels")
    if min(before.shape[1:3]) < SMALLEST:
        return [None] * len(before)
    import torch

    place = next(network.parameters()).device  # type: ignore[attr-defined]
    with torch.inference_mode():
        distances = network(*(torch.from_numpy(tensor(images)).to(place) for images in (before, after)))
    return [float(value) for value in distances.flatten().cpu()]


def tensor(images: np.ndarray) -> np.ndarray:
    """(N, H, W, 3) uint8 as (N, 3, H, W) float32 in [-1, 1], which is what the library's own loader makes."""
    return np.ascontiguousarray(images.transpose(0, 3, 1, 2), dtype=np.float32) / np.float32(127.5) - np.float32(1)
