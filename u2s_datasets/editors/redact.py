"""Redaction: what is private is painted over, and nothing is put in its place.

Two families. `inpaint` (the default) and `solid` never read a pixel of the box: the paint is computed from
what surrounds it, so there is nothing to undo. `pixelate` and `blur` are averages of what they hide. Whoever
has a list of candidates (plates, employees) redacts each of them the same way and keeps the nearest; noise
and few cells make that harder, never impossible. They are here because people ask for them.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from PIL import Image, ImageFilter

from u2s_datasets.errors import EditFailed, SetupError
from u2s_datasets.parts import Box, Detection, Edit, Editor

METHODS = ("inpaint", "solid", "pixelate", "blur")
NOISE = {"inpaint": 3.0, "solid": 0.0, "pixelate": 24.0, "blur": 8.0}
"""Standard deviation in grey levels: grain for the smooth methods, a shift of the whole cell for `pixelate`."""

FACE = (0.4, 0.5, 0.4, 0.3)
"""Growth left, top, right, bottom as shares of the face's width and height. Detectors box eyebrows to chin;
people are recognised by hair, ears and jaw as well."""
TEXT, OTHER = 0.25, 0.1
"""Growth on all sides: of the line's height for text (accents and tails stick out), of the shorter side else."""

_GRID = 32  # cells of the inpainting grid along the longer side; bounds the cost of a box of any size
_STEP = 32  # pixelated colours are multiples of this
_GREY = 128  # where nothing public surrounds a box
_Pixels = tuple[int, int, int, int]


def grow(box: Box, category: str) -> Box:
    """The region to hide for one detected box, by what it is. Not clipped to the image.

    Args:
        box: (x0, y0, x1, y1) in pixels.
        category: "face" grows to hair, ears and chin; "text" and "plate" by a share of the line's height;
            anything else a little.
    """
    x0, y0, x1, y1 = box
    width, height = x1 - x0, y1 - y0
    if category == "face":
        left, top, right, bottom = FACE
        return x0 - left * width, y0 - top * height, x1 + right * width, y1 + bottom * height
    # A single narrow letter still counts as a line of its height; a column of letters does not.
    by = TEXT * min(height, 3 * width) if category in ("text", "plate") else OTHER * min(width, height)
    return x0 - by, y0 - by, x1 + by, y1 + by


def regions(detections: Sequence[Detection], size: tuple[int, int]) -> list[Box]:
    """The boxes to give to an editor: grown by category, clipped, and merged where they mostly overlap.

    The order of the detections changes nothing.

    Args:
        detections: of one image, in pixels.
        size: (width, height) of that image.

    Raises:
        EditFailed: a box is not finite or is turned inside out.
    """
    boxes = [_clip(grow(_sound(d.box), d.category), size) for d in detections]
    merged: list[Box] = []
    for box in sorted(b for b in boxes if b[0] < b[2] and b[1] < b[3]):
        while (hit := next((m for m in merged if _overlap(m, box) > 0.5), None)) is not None:
            merged.remove(hit)
            box = (*map(min, hit[:2], box[:2]), *map(max, hit[2:], box[2:]))  # type: ignore[assignment]
        merged.append(box)
    return sorted(merged)


@dataclass(frozen=True)
class Redact(Editor):
    """Paints over `Edit.boxes` as rectangles; every other pixel stays bit-identical.

    A further attempt (`Edit.strength`) grows the boxes by `margin` and halves the cells; from the second on
    it is `solid`, whatever the method.

    Args:
        method: "inpaint", "solid", "pixelate" or "blur".
        cells: cells along a box's longer side, 1 or more; cells are square, so a line of text has one row.
            The standard deviation of the blur is half a cell. Unused by `inpaint` and `solid`.
        noise: standard deviation in grey levels, 0 to 128; None takes the measured one of the method (`NOISE`).
        margin: growth per further attempt, as a share of a box's shorter side, 0 to 1.

    Raises:
        SetupError: a value is not allowed.
    """

    method: str = "inpaint"
    cells: int = 4
    noise: float | None = None
    margin: float = 0.15

    redacts: ClassVar[bool] = True
    libraries: ClassVar[tuple[str, ...]] = ("numpy", "pillow")

    def __post_init__(self) -> None:
        self.check()

    def check(self) -> None:
        if self.method not in METHODS:
            raise SetupError(f"method={self.method!r} is unknown; take one of {', '.join(METHODS)}")
        if not self.cells >= 1:
            raise SetupError(f"cells={self.cells!r} is below 1; take 1 to 8, fewer hide more")
        if self.noise is not None and not 0 <= self.noise <= 128:
            raise SetupError(f"noise={self.noise!r} is outside 0 to 128 grey levels; None takes the measured one")
        if not 0 <= self.margin <= 1:
            raise SetupError(f"margin={self.margin!r} is outside 0 to 1; it is a share of a box's shorter side")

    def edit(self, edits: Sequence[Edit]) -> list[Image.Image]:
        """One redacted RGB image per order, same size, without metadata.

        Noise comes from `Edit.seed` alone, drawn box by box in the order given.

        Raises:
            EditFailed: no box has a pixel in the image (empty boxes mean that nothing is known to be private,
                and an unedited image is no edit), a box is malformed, or a box came out as it went in.
        """
        return [self._one(edit) for edit in edits]

    def _one(self, edit: Edit) -> Image.Image:
        if edit.image.mode != "RGB":
            raise EditFailed(f"image mode {edit.image.mode} is not RGB; decode it upright and in RGB first")
        source = np.array(edit.image)
        boxes = [self._pixels(box, edit) for box in edit.boxes]
        boxes = [b for b in boxes if b[0] < b[2] and b[1] < b[3]]
        if not boxes:
            raise EditFailed(f"{len(edit.boxes)} boxes, none with a pixel in the image: nothing to redact")
        canvas, hidden = source.copy(), np.zeros(source.shape[:2], bool)
        for x0, y0, x1, y1 in boxes:
            hidden[y0:y1, x0:x1] = True  # all of them first: no box may be painted with the inside of another
        rng = np.random.default_rng(edit.seed)
        for x0, y0, x1, y1 in boxes:
            # From the canvas, not the source: an overlap is averaged again, never brought back.
            paint = self._paint(canvas, hidden, (x0, y0, x1, y1), edit.strength, rng)
            if not np.isfinite(paint).all():
                raise EditFailed(f"the paint for the box {(x0, y0, x1, y1)} is not finite")
            canvas[y0:y1, x0:x1] = np.clip(np.rint(paint), 0, 255)
        for x0, y0, x1, y1 in boxes:
            _assert_changed(source[y0:y1, x0:x1], canvas[y0:y1, x0:x1])
        return Image.fromarray(canvas)

    def _pixels(self, box: Box, edit: Edit) -> _Pixels:
        """Every pixel that the box touches, after the growth of a further attempt."""
        x0, y0, x1, y1 = _sound(box)
        if x0 == x1 or y0 == y1:
            return 0, 0, 0, 0
        by = self.margin * max(edit.strength, 0) * min(x1 - x0, y1 - y0)
        x0, y0, x1, y1 = _clip((x0 - by, y0 - by, x1 + by, y1 + by), edit.image.size)
        return math.floor(x0), math.floor(y0), math.ceil(x1), math.ceil(y1)

    def _paint(
        self, canvas: np.ndarray, hidden: np.ndarray, box: _Pixels, strength: int, rng: np.random.Generator
    ) -> np.ndarray:
        """(h, w, 3) float colours for one box; (1, 1, 3) where they are constant."""
        method = self.method if strength < 2 else "solid"
        noise = NOISE[method] if self.noise is None else self.noise
        cells = max(self.cells >> max(strength, 0), 1)
        x0, y0, x1, y1 = box
        if method == "solid":
            return _surroundings(canvas, hidden, box)[0].mean(0)[None, None]
        if method == "pixelate":
            return _pixelate(canvas[y0:y1, x0:x1], cells, noise, rng)
        smooth = _blur(canvas[y0:y1, x0:x1], cells) if method == "blur" else _inpaint(canvas, hidden, box)
        return smooth + noise * rng.standard_normal((y1 - y0, x1 - x0, 1), np.float32)


def _pixelate(inside: np.ndarray, cells: int, noise: float, rng: np.random.Generator) -> np.ndarray:
    """Square cells of one colour. The noise is per cell: per pixel, it would average out."""
    height, width = inside.shape[:2]
    side = max(height, width) / cells
    grid = (max(round(width / side), 1), max(round(height / side), 1))
    means = np.asarray(Image.fromarray(inside).resize(grid, Image.Resampling.BOX), np.float32)
    means = means + noise * rng.standard_normal(means.shape, np.float32)
    coarse = np.clip(np.rint(means / _STEP) * _STEP, 0, 255).astype(np.uint8)
    return np.asarray(Image.fromarray(coarse).resize((width, height), Image.Resampling.NEAREST), np.float32)


def _blur(inside: np.ndarray, cells: int) -> np.ndarray:
    sigma = max(inside.shape[:2]) / cells / 2
    return np.asarray(Image.fromarray(inside).filter(ImageFilter.GaussianBlur(sigma)), np.float32)


def _inpaint(canvas: np.ndarray, hidden: np.ndarray, box: _Pixels) -> np.ndarray:
    """The colours around the box, spread over it: each point is their mean weighted by 1 / distance².

    That weight is the Poisson kernel of a straight edge, so the fill is close to the harmonic one (a soap film
    spanned by the border) without solving for it, and never leaves the range of the border's colours.
    """
    x0, y0, x1, y1 = box
    colours, places = _surroundings(canvas, hidden, box)
    cell = max((x1 - x0) / _GRID, (y1 - y0) / _GRID, 1)
    cols, rows = max(round((x1 - x0) / cell), 2), max(round((y1 - y0) / cell), 2)
    x = x0 + (np.arange(cols) + 0.5) * (x1 - x0) / cols
    y = y0 + (np.arange(rows) + 0.5) * (y1 - y0) / rows
    across, down = (x[:, None] - places[:, 0]) ** 2, (y[:, None] - places[:, 1]) ** 2
    weights = 1 / (down[:, None] + across[None] + 1e-6)  # (rows, cols, places)
    grid = (weights @ colours / weights.sum(-1, keepdims=True)).astype(np.float32)
    planes = [Image.fromarray(grid[..., c]).resize((x1 - x0, y1 - y0), Image.Resampling.BILINEAR) for c in range(3)]
    return np.stack([np.asarray(p) for p in planes], -1)


def _surroundings(canvas: np.ndarray, hidden: np.ndarray, box: _Pixels) -> tuple[np.ndarray, np.ndarray]:
    """Mean colours (n, 3) and centres (n, 2) as x, y of the public cells around a box; grey where there are none."""
    x0, y0, x1, y1 = box
    height, width = hidden.shape
    cell = max(math.ceil(max(x1 - x0, y1 - y0) / _GRID), 2)
    # A ring of one cell; where others' boxes fill it, the whole image in cells of the same number.
    for left, top, right, bottom in ((x0 - cell, y0 - cell, x1 + cell, y1 + cell), (0, 0, width, height)):
        left, top, right, bottom = max(left, 0), max(top, 0), min(right, width), min(bottom, height)
        public = ~hidden[top:bottom, left:right]
        if public.any():
            break
        cell = max(math.ceil(max(width, height) / _GRID), 2)
    else:
        return np.full((1, 3), float(_GREY)), np.array([[(x0 + x1) / 2, (y0 + y1) / 2]])
    ys, xs = np.nonzero(public)
    index = (ys // cell) * (public.shape[1] // cell + 1) + xs // cell
    _, index, count = np.unique(index, return_inverse=True, return_counts=True)
    values = np.column_stack([canvas[top:bottom, left:right][public], xs + left + 0.5, ys + top + 0.5])
    sums = np.column_stack([np.bincount(index, values[:, c]) for c in range(5)])
    means = sums / count[:, None]
    return means[:, :3], means[:, 3:]


def _assert_changed(before: np.ndarray, after: np.ndarray) -> None:
    flat = (before == before[:1, :1]).all()
    if not flat and (before == after).all():
        raise EditFailed("a box came out as it went in; nothing was hidden")


def _sound(box: Box) -> Box:
    x0, y0, x1, y1 = box
    if not all(map(math.isfinite, box)) or x1 < x0 or y1 < y0:
        raise EditFailed(f"the box {box} is not (x0, y0, x1, y1) in pixels with x0 <= x1 and y0 <= y1")
    return x0, y0, x1, y1


def _clip(box: Box, size: tuple[int, int]) -> Box:
    x0, y0, x1, y1 = box
    return max(x0, 0), max(y0, 0), min(x1, size[0]), min(y1, size[1])


def _overlap(a: Box, b: Box) -> float:
    """Intersection over the smaller area, in [0, 1]."""
    across, down = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    smaller = min((a[2] - a[0]) * (a[3] - a[1]), (b[2] - b[0]) * (b[3] - b[1]))
    return max(across, 0) * max(down, 0) / smaller
