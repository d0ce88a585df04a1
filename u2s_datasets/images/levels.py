"""What a viewer can stretch, detectors see: pictures whose values span few levels are stretched, for looking only."""

import numpy as np
from PIL import Image

SPAN = 64
"""Grey levels, 2 to 255: a picture that spans fewer is stretched to all 256. Faces are found from 48 on."""
_OUTLIERS = 1e-4  # share of the values, at either end, that does not count: hot pixels, rings around an edge


def stretched(image: np.ndarray, like: np.ndarray | None = None) -> np.ndarray:
    """The picture as whoever stretches its levels sees it; the very array if it spans enough of them.

    Only what looks is given this. What is edited and published is the picture itself.

    Args:
        image: (H, W, 3) uint8 RGB.
        like: the picture whose levels count, for an edited copy of it, since paint has levels of its own; None for
            the image itself.

    Returns:
        (H, W, 3) uint8.
    """
    low, high = _span(image if like is None else like)
    if not 0 < high - low < SPAN:
        return image
    table = np.rint((np.arange(256) - low) * (255 / (high - low))).clip(0, 255).astype(np.uint8)
    return table[image]


def _span(image: np.ndarray) -> tuple[int, int]:
    """The darkest and the brightest of the values of all channels, without outliers."""
    counts = np.reshape(Image.fromarray(image).histogram(), (3, 256)).sum(axis=0)  # much faster than NumPy's
    low, high = (np.cumsum(c, dtype=np.float64) > _OUTLIERS * image.size for c in (counts, counts[::-1]))
    return int(low.argmax()), 255 - int(high.argmax())
