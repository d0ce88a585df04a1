"""Correlation of a part of one picture with parts of another, whatever its sign: features, motions, templates.

Three features of a picture, each compared by the cosine of masked patches:

- *edges*: where edges run and how they lean, in all colours at once. The doubled angle of a gradient is the same
  whether a tone rises or falls, so inverted, posterised and false colours leave it as it is.
- *tones*: the band-passed grey picture. It survives noise, which breaks edges.
- *details*: the same in a finer band. Two faces in one pose are alike when coarse and hardly in detail, and a mixture
  of half with anything keeps half of every detail.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

import cv2
import numpy as np

from u2s_datasets.images.geometry import Box

RIM = 8
"""Grid pixels around a patch that filters may read."""

Feature = Callable[[np.ndarray], np.ndarray]
"""From (H, W, 3) float32 RGB to (C, H, W) float32."""


def edges(pixels: np.ndarray) -> np.ndarray:
    """Edges by place and direction, of the structure tensor over all channels; evened out locally. (2, H, W)."""
    smooth = cv2.GaussianBlur(pixels, (0, 0), 0.7)
    across, down = cv2.Sobel(smooth, cv2.CV_32F, 1, 0), cv2.Sobel(smooth, cv2.CV_32F, 0, 1)
    cosine, sine = (across**2 - down**2).sum(2), (2 * across * down).sum(2)
    energy = np.sqrt(cosine**2 + sine**2)
    # The square root keeps one strong edge from outweighing a face; 3 grey levels are what compression makes.
    even = np.sqrt(energy + 1e-3) * (cv2.GaussianBlur(np.sqrt(energy), (0, 0), 2.5) + 3)
    return np.stack([cosine / even, sine / even])


def tones(pixels: np.ndarray) -> np.ndarray:
    """The grey picture without what is larger than a few grid pixels. (1, H, W)."""
    return _band(pixels, 0.6, 3.0)


def details(pixels: np.ndarray) -> np.ndarray:
    """The finest band of the grey picture. (1, H, W)."""
    return _band(pixels, 0.3, 1.2)


def _band(pixels: np.ndarray, low: float, high: float) -> np.ndarray:
    grey = pixels @ np.array([0.299, 0.587, 0.114], np.float32)
    return (cv2.GaussianBlur(grey, (0, 0), low) - cv2.GaussianBlur(grey, (0, 0), high))[None]


Likeness = dict[str, float]
"""Feature -> correlation in [0, 1]."""

FEATURES: dict[str, Feature] = {"edges": edges, "tones": tones, "details": details}


@dataclass(frozen=True)
class Motion:
    """How a part of the original may have come into the output.

    Args:
        place: (x, y) in the output, in pixels, to which its centre went.
        turn: degrees, by which it was turned after it was mirrored.
        scale: how much larger it became.
        mirrored: whether left and right were changed.
        likeness: the correlation that speaks for it, in [0, 1].
    """

    place: tuple[float, float]
    turn: float = 0.0
    scale: float = 1.0
    mirrored: bool = False
    likeness: float = 0.0

    @property
    def matrix(self) -> np.ndarray:
        """(2, 2): from an offset in the original to one in the output."""
        angle = np.radians(self.turn)
        turned = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
        return self.scale * turned @ np.diag([-1.0 if self.mirrored else 1.0, 1.0])


class Window:
    """A part of a picture at another size; outside of the picture its edge goes on.

    Args:
        pixels: (H, W, 3) uint8 of the whole picture.
        centre: (x, y) in pixels of the picture.
        reach: pixels of the picture to each side.
        zoom: grid pixels per pixel.
    """

    def __init__(self, pixels: np.ndarray, centre: tuple[float, float], reach: float, zoom: float) -> None:
        height, width = pixels.shape[:2]
        low = [int(np.floor(v - reach)) for v in centre]
        high = [int(np.ceil(v + reach)) for v in centre]
        columns = np.clip(np.arange(low[0], high[0]), 0, width - 1)
        rows = np.clip(np.arange(low[1], high[1]), 0, height - 1)
        part = pixels[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
        part = part[(rows - rows[0])[:, None], columns - columns[0]]
        size = max(round(len(columns) * zoom), 3), max(round(len(rows) * zoom), 3)
        how = cv2.INTER_AREA if zoom < 1 else cv2.INTER_CUBIC
        self.pixels = cv2.resize(part, size, interpolation=how).astype(np.float32)
        self.origin = np.array(low, float)
        self.zoom = np.array([size[0] / len(columns), size[1] / len(rows)])

    def patch(self, centre: tuple[float, float], matrix: np.ndarray, half: int) -> np.ndarray:
        """(2 · half + 1) squared pixels around a point of the picture, at offsets of the grid times the matrix."""
        middle = (np.array(centre) - self.origin) * self.zoom - 0.5
        shifted = np.hstack([matrix, (middle - matrix @ [half, half])[:, None]])
        how = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
        side = (2 * half + 1, 2 * half + 1)
        return cv2.warpAffine(self.pixels, shifted, side, flags=how, borderMode=cv2.BORDER_REPLICATE)

    def to_picture(self, column: float, row: float) -> tuple[float, float]:
        """The point of the picture at which a pixel of this window lies."""
        x, y = (np.array([column, row]) + 0.5) / self.zoom + self.origin
        return float(x), float(y)


class Template:
    """What stood in a box, on a grid in which its side is `grid` pixels or its own if that is fewer."""

    def __init__(self, pixels: np.ndarray, box: Box, grid: int) -> None:
        x0, y0, x1, y1 = box
        self.side = side_of(box)
        self.centre = ((x0 + x1) / 2, (y0 + y1) / 2)
        self.zoom = min(grid, self.side) / self.side
        self.half_size = (x1 - x0) * self.zoom / 2, (y1 - y0) * self.zoom / 2
        self.radius = int(np.ceil(max(self.half_size)))
        self.window = Window(pixels, self.centre, (self.radius + RIM + 2) * 1.5 / self.zoom, self.zoom)
        self._features: dict[str, np.ndarray] = {}

    @cached_property
    def upright(self) -> np.ndarray:
        """The mask without a turn."""
        return self.mask(np.eye(2))

    def mask(self, matrix: np.ndarray) -> np.ndarray:
        """(k, k) float32 of 0 and 1: the ellipse in the box, turned. Corners are background."""
        span = np.arange(-self.radius, self.radius + 1, dtype=np.float32)
        u = matrix[0, 0] * span[None] + matrix[0, 1] * span[:, None]
        v = matrix[1, 0] * span[None] + matrix[1, 1] * span[:, None]
        return ((u / self.half_size[0]) ** 2 + (v / self.half_size[1]) ** 2 <= 1).astype(np.float32)

    def turned(self, feature: Feature, motion: Motion) -> np.ndarray:
        """A feature of the box as it looks after a motion; masked. (C, k, k)."""
        patch = self.window.patch(self.centre, np.linalg.inv(motion.matrix), self.radius + RIM)
        return _without_rim(feature(patch)) * self.mask(np.linalg.inv(motion.matrix))

    def feature(self, name: str) -> np.ndarray:
        """A feature of the box as it was; masked. (C, k, k)."""
        if name not in self._features:
            self._features[name] = self.turned(FEATURES[name], Motion(self.centre))
        return self._features[name]

    def look(self, after: np.ndarray, motion: Motion) -> Window:
        """What of the output has to be seen to compare it with this where a motion, or one close to it, went."""
        zoom = self.zoom / motion.scale
        return Window(after, motion.place, (self.radius + RIM + 5) * 1.55 / zoom, zoom)

    def likeness(self, window: Window, seen: Motion, motion: Motion, names: Sequence[str], slack: int) -> Likeness:
        """Feature -> correlation with what stands in the output where this went, shifted by up to `slack`.

        Args:
            window, seen: from `look`, and the motion that it was given.
            motion: where this went, close to `seen`.
            names: the features.
            slack: grid pixels.
        """
        patch = window.patch(motion.place, motion.matrix / seen.scale, self.radius + RIM + slack)
        return {
            name: float(slide(_without_rim(FEATURES[name](patch)), self.feature(name)[None], self.upright[None]).max())
            for name in names
        }


def _without_rim(feature: np.ndarray) -> np.ndarray:
    return feature[:, RIM:-RIM, RIM:-RIM]


def slide(feature: np.ndarray, templates: np.ndarray, masks: np.ndarray) -> np.ndarray:
    """|cosine| of masked templates with every part of a feature: one product of matrices for all of them.

    Args:
        feature: (C, H, W).
        templates: (N, C, k, k), zero outside their masks.
        masks: (M, k, k), each for N / M templates that follow each other.

    Returns:
        (H - k + 1, W - k + 1, N) in [0, 1].
    """
    side = templates.shape[-1]
    parts, shape = _all_parts(feature, side)
    energy, _ = _all_parts((feature**2).sum(0)[None], side)
    flat = templates.reshape(len(templates), -1)
    flat = flat / (np.linalg.norm(flat, axis=1, keepdims=True) + 1e-6)
    norms = np.sqrt(np.maximum(energy @ masks.reshape(len(masks), -1).T, 0)) + 1e-3
    return (np.abs(parts @ flat.T) / np.repeat(norms, len(flat) // len(masks), axis=1)).reshape(*shape, -1)


def _all_parts(feature: np.ndarray, side: int) -> tuple[np.ndarray, tuple[int, int]]:
    views = np.lib.stride_tricks.sliding_window_view(feature, (side, side), axis=(1, 2))
    rows, columns = views.shape[1:3]
    return np.ascontiguousarray(views.transpose(1, 2, 0, 3, 4)).reshape(rows * columns, -1), (rows, columns)


def side_of(box: Box) -> float:
    """The square root of a box's area."""
    return float(np.sqrt((box[2] - box[0]) * (box[3] - box[1])))
