"""Redaction: what is private is painted over, and nothing is put in its place.

Two families. `inpaint` (the default) and `solid` never read a pixel of the box: the paint is computed from
what surrounds it, so there is nothing to undo. `pixelate` and `blur` average what they hide, and whoever has
a list of candidates (plates, colleagues) can redact each the same way and keep the nearest. Noise and few cells make
that harder, not impossible: it found the plate among 20 in 17 of 19 photos at 4 noisy cells, in 19 blurred.

A patch above shoulders is still a head to a face detector, hence `fills.natural`, which is no patch, at the first
attempt, and loud hatching in the regions where something was found again.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import cv2
import numpy as np
from PIL import Image, ImageFilter

from u2s_datasets.errors import EditFailed, SetupError
from u2s_datasets.images import Box, Outline, Shape, cover_box, grow_evenly
from u2s_datasets.images.shapes import Window, bounds, corners, pixels_of
from u2s_datasets.parts import Detection, Edit, Editor, Grow, Region
from u2s_datasets.parts.checks import check_choice, check_ranges
from u2s_datasets.parts.editors.fills import natural

MASKS = ("shape", "box")
METHODS = ("inpaint", "solid", "pixelate", "blur")
# Grey levels: amplitude of the hatching for `inpaint` and `solid`, else a standard deviation.
NOISE = {"inpaint": 24.0, "solid": 0.0, "pixelate": 24.0, "blur": 8.0}

_GRID = 32  # cells along the longer side of what is inpainted: bounds the cost of a box of any size
_BANDS = 10  # of the hatching, along the longer side
_SOFT, _SOFTEST = 0.03, 8  # width of the soft edge, as a share of a region's shorter side, and its most pixels
_STEP = 32  # pixelated colours are multiples of this


def regions(detections: Sequence[Detection], size: tuple[int, int], growth: Mapping[str, Grow]) -> list[Box]:
    """The boxes to give to an editor: grown by category, clipped, merged where they mostly overlap, sorted.

    Args:
        detections: of one image, in any order.
        size: (width, height) of that image.
        growth: category -> how its boxes grow; all others by `grow_evenly`.

    Raises:
        EditFailed: a box is not finite or its corners are swapped.
    """
    boxes = [_clip(growth.get(d.category, grow_evenly)(_check_box(d.box)), size) for d in detections]
    merged: list[Box] = []
    for box in sorted(b for b in boxes if b[0] < b[2] and b[1] < b[3]):
        # A merged box is larger and may now overlap another one, so it is compared with all again.
        while (hit := next((m for m in merged if _overlap(m, box) > 0.5), None)) is not None:
            merged.remove(hit)
            box = min(hit[0], box[0]), min(hit[1], box[1]), max(hit[2], box[2]), max(hit[3], box[3])
        merged.append(box)
    return sorted(merged)


def hidden_regions(
    detections: Sequence[Detection],
    size: tuple[int, int],
    shapes: Mapping[str, Shape],
    found_again: Sequence[Detection] = (),
) -> list[Region]:
    """What a redacting editor is to hide: shaped by category, sorted, those together that mostly overlap.

    Args:
        detections: of one image, in any order.
        size: (width, height) of that image.
        shapes: category -> its shape; all others are boxes grown by `grow_evenly`.
        found_again: what was found after an earlier attempt; a region that it touches has the strength 1.

    Raises:
        EditFailed: a box is not finite or its corners are swapped.
    """
    every = cover_box(grow_evenly)
    outlines = {shapes.get(d.category, every)(_check_box(d.box), d.outline) for d in detections}
    clipped = {outline: _clip(bounds(outline), size) for outline in sorted(outlines)}
    left = [outline for outline, box in clipped.items() if box[0] < box[2] and box[1] < box[3]]
    made = []
    while left:
        group = [left.pop(0)]
        for member in group:  # it grows meanwhile
            near = [outline for outline in left if _overlap(clipped[member], clipped[outline]) > 0.5]
            left = [outline for outline in left if outline not in near]
            group += near
        again = any(_overlap(clipped[outline], d.box) > 0 for outline in group for d in found_again)
        made.append(Region(tuple(sorted(group)), int(again)))
    return sorted(made, key=lambda region: region.outlines)


class _Hole(NamedTuple):
    """What is painted at once.

    Args:
        window: (x0, y0, x1, y1) in whole pixels.
        inside: (y1 - y0, x1 - x0) bool, the pixels that change; no paint is mixed from them.
        share: of the paint in each pixel, float32 in [0, 1]: 1 in the core, less in the soft edge around it.
        strength: of the attempt.
    """

    window: Window
    inside: np.ndarray
    share: np.ndarray
    strength: int

    @property
    def at(self) -> tuple[slice, slice]:
        x0, y0, x1, y1 = self.window
        return slice(y0, y1), slice(x0, x1)


def _hole(outlines: Sequence[Outline], size: tuple[int, int], strength: int, by: float = 0.0, soft: int = 0) -> _Hole:
    """A hole `by` pixels larger than its outlines; or one of whose pixels the outermost, so many, are its soft edge."""
    window, inside = pixels_of(outlines, size, math.ceil(by) + 1 if by or soft else 0)
    if by and inside.any():
        inside = cv2.distanceTransform((~inside).astype(np.uint8), cv2.DIST_L2, 5) <= by
    share = inside.astype(np.float32)
    if soft and not inside.all():
        share = np.minimum(cv2.distanceTransform(inside.astype(np.uint8), cv2.DIST_L2, 5) / (soft + 1), 1)
    return _Hole(window, inside, share, strength)


@dataclass(frozen=True)
class Redact(Editor):
    """Paints over `Edit.regions`, or over `Edit.boxes` as rectangles; every other pixel stays bit-identical.

    A further attempt (`Region.strength`, and of boxes `Edit.strength`) grows a region by `margin` and halves its cells;
    from the second on it is `solid`, whatever the method.

    Args:
        method: "inpaint", "solid", "pixelate" or "blur".
        cells: cells along a box's longer side, 1 or more; cells are square, so a line of text has one row.
            The standard deviation of the blur is half a cell. Unused by `inpaint` and `solid`.
        noise: in grey levels, 0 to 128; None takes that of the method in `NOISE`, which says what it is; of `inpaint`
            that of a further attempt.
        margin: growth per further attempt, as a share of a box's shorter side, 0 to 1.
        mask: "shape" follows heads and lines of text; "box" hides the upright rectangles around these.

    Raises:
        SetupError: an invalid value.
    """

    method: str = "inpaint"
    cells: int = 4
    noise: float | None = None
    margin: float = 0.15
    mask: str = "shape"

    redacts = True
    shown: ClassVar[tuple[str, ...]] = ("method", "mask")
    libraries: ClassVar[tuple[str, ...]] = ("numpy", "pillow")

    def __post_init__(self) -> None:
        self.check()

    def check(self) -> None:
        if self.method not in METHODS:
            raise SetupError(f"unknown method {self.method!r}; expected one of: {', '.join(METHODS)}")
        check_choice("mask", self.mask, MASKS)
        check_ranges(self, cells=(1, 64), margin=(0, 1))
        if self.noise is not None:
            check_ranges(self, noise=(0, 128))

    def edit(self, edits: Sequence[Edit]) -> list[Image.Image]:
        """One redacted RGB image per order, same size, without metadata.

        Noise comes from `Edit.seed` alone, drawn region by region in the order given.

        Raises:
            EditFailed: no box has a pixel in the image (without boxes nothing is known to be private, and an
                unchanged image must not pass for an edit), a box is malformed, or a box came out as it went in.
        """
        return [self._redact(edit) for edit in edits]

    def _redact(self, edit: Edit) -> Image.Image:
        if edit.image.mode != "RGB":
            raise EditFailed(f"image mode {edit.image.mode} is not RGB; decode it upright and in RGB first")
        source, rng = np.array(edit.image), np.random.default_rng(edit.seed)
        holes = [hole for hole in self._holes(edit) if hole.inside.any()]
        if not holes:
            count = len(edit.regions or edit.boxes)
            raise EditFailed(f"{count} boxes, none with a pixel in the image: nothing to redact")
        canvas, hidden = source.copy(), np.zeros(source.shape[:2], bool)
        for hole in holes:
            hidden[hole.at] |= hole.inside  # all of them first: no hole may be painted with the inside of another
        for hole in holes:
            # Onto the canvas, not the source: what is averaged where two overlap is averaged again, never brought back.
            paint = self._paint(canvas, hidden, hole, rng)
            if not np.isfinite(paint).all():
                raise EditFailed(f"the paint for the region {hole.window} is not finite")
            share = hole.share[..., None]
            mixed = np.rint(np.clip(canvas[hole.at] * (1 - share) + paint * share, 0, 255)).astype(np.uint8)
            canvas[hole.at] = np.where(share == 0, canvas[hole.at], mixed)
        for hole in holes:
            before = source[hole.at][hole.inside]
            if (canvas[hole.at][hole.inside] == before).all() and (before != before[0]).any():
                raise EditFailed(f"the region {hole.window} came out as it went in; nothing was hidden")
        return Image.fromarray(canvas)

    def _holes(self, edit: Edit) -> list[_Hole]:
        """Every pixel that a region touches, after the growth of a further attempt."""
        size = edit.image.size
        if not edit.regions:
            grown = [_grown(_check_box(box), self.margin * max(edit.strength, 0)) for box in edit.boxes]
            return [_hole((corners(box),), size, edit.strength) for box in grown]
        holes = []
        for region in edit.regions:
            boxes = [_check_box(bounds(outline)) for outline in region.outlines]
            outlines = region.outlines if self.mask == "shape" else tuple(map(corners, boxes))
            side = min(min(x1 - x0, y1 - y0) for x0, y0, x1, y1 in boxes)
            is_soft = self.method == "inpaint" and region.strength < 1
            soft = min(round(_SOFT * side), _SOFTEST) if is_soft else 0
            holes.append(_hole(outlines, size, region.strength, self.margin * max(region.strength, 0) * side, soft))
        return holes

    def _paint(self, canvas: np.ndarray, hidden: np.ndarray, hole: _Hole, rng: np.random.Generator) -> np.ndarray:
        """(h, w, 3) float colours for the window of one hole."""
        x0, y0, x1, y1 = window = hole.window
        method = self.method if hole.strength < 2 else "solid"
        noise = NOISE[self.method] if self.noise is None else self.noise
        if method in ("pixelate", "blur"):
            average = _pixelate if method == "pixelate" else _blur
            return average(canvas[hole.at], max(self.cells >> max(hole.strength, 0), 1), noise, rng)
        if method == "inpaint" and hole.strength < 1:
            return natural(canvas, hidden, window, rng)
        if method == "inpaint":
            return _inpaint(canvas, hidden, window) + noise * _hatch(x1 - x0, y1 - y0, rng)
        return _surroundings(canvas, hidden, window)[0].mean(0) + noise * _hatch(x1 - x0, y1 - y0, rng)


def _pixelate(inside: np.ndarray, cells: int, noise: float, rng: np.random.Generator) -> np.ndarray:
    """Square cells of one colour. Noise is per cell: per pixel, it would average out."""
    height, width = inside.shape[:2]
    side = max(height, width) / cells
    grid = (max(round(width / side), 1), max(round(height / side), 1))
    means = np.asarray(Image.fromarray(inside).resize(grid, Image.Resampling.BOX), np.float32)
    means = means + noise * rng.standard_normal(means.shape, np.float32)
    coarse = np.clip(np.rint(means / _STEP) * _STEP, 0, 255).astype(np.uint8)
    return np.asarray(Image.fromarray(coarse).resize((width, height), Image.Resampling.NEAREST), np.float32)


def _blur(inside: np.ndarray, cells: int, noise: float, rng: np.random.Generator) -> np.ndarray:
    sigma = max(inside.shape[:2]) / cells / 2
    blurred = np.asarray(Image.fromarray(inside).filter(ImageFilter.GaussianBlur(sigma)), np.float32)
    return blurred + noise * rng.standard_normal((*inside.shape[:2], 1), np.float32)


def _hatch(width: int, height: int, rng: np.random.Generator) -> np.ndarray:
    """(height, width, 1) of -1 and 1 in diagonal bands; direction and phase are drawn."""
    lean, phase = rng.choice((-1, 1)), rng.uniform(0, 2)
    band = max(max(width, height) / _BANDS, 2)
    along = np.arange(width)[None] + lean * np.arange(height)[:, None]
    return np.where((along / band + phase) % 2 < 1, 1, -1).astype(np.float32)[..., None]


def _inpaint(canvas: np.ndarray, hidden: np.ndarray, box: Window) -> np.ndarray:
    """The colours around the box, spread over it: each point is their mean weighted by 1 / distance².

    That is the Poisson kernel of a straight edge: close to the harmonic fill (a soap film on the border) without
    solving for it, and never outside the range of the border's colours.
    """
    x0, y0, x1, y1 = box
    colours, positions = _surroundings(canvas, hidden, box)
    cell = max((x1 - x0) / _GRID, (y1 - y0) / _GRID, 1)
    cols, rows = max(round((x1 - x0) / cell), 1), max(round((y1 - y0) / cell), 1)
    x = x0 + (np.arange(cols) + 0.5) * (x1 - x0) / cols
    y = y0 + (np.arange(rows) + 0.5) * (y1 - y0) / rows
    across, down = (x[:, None] - positions[:, 0]) ** 2, (y[:, None] - positions[:, 1]) ** 2
    weights = 1 / np.add(down[:, None], across, dtype=np.float32).clip(1e-6)  # (rows, cols, n)
    grid = weights @ colours.astype(np.float32) / weights.sum(-1, keepdims=True)
    planes = [Image.fromarray(plane) for plane in np.moveaxis(grid, -1, 0)]
    return np.stack([np.asarray(p.resize((x1 - x0, y1 - y0), Image.Resampling.BILINEAR)) for p in planes], -1)


def _surroundings(canvas: np.ndarray, hidden: np.ndarray, box: Window) -> tuple[np.ndarray, np.ndarray]:
    """Colours (n, 3) and positions (n, 2) as x, y of the public cells around a box; without any, one grey."""
    x0, y0, x1, y1 = box
    height, width = hidden.shape
    ring = max(math.ceil(max(x1 - x0, y1 - y0) / _GRID), 2)
    for reach in (ring, max(width, height)):  # all of the image if other boxes fill the ring
        left, top = max(x0 - reach, 0), max(y0 - reach, 0)
        window = slice(top, y1 + reach), slice(left, x1 + reach)
        ys, xs = np.nonzero(~hidden[window])
        if len(ys):
            break
    else:
        return np.full((1, 3), 128.0), np.array([[x0, y0]], float)
    cell = math.ceil(reach / _GRID) if reach > ring else ring
    _, cells, counts = np.unique((ys // cell) * width + xs // cell, return_inverse=True, return_counts=True)
    values = (*canvas[window][ys, xs].T, xs + left + 0.5, ys + top + 0.5)
    means = np.stack([np.bincount(cells, v) / counts for v in values], -1)
    return means[:, :3], means[:, 3:]


def _check_box(box: Box) -> Box:
    x0, y0, x1, y1 = box
    if not all(map(math.isfinite, box)) or x1 < x0 or y1 < y0:
        raise EditFailed(f"the box {box} is not (x0, y0, x1, y1) in pixels with x0 <= x1 and y0 <= y1")
    return box


def _grown(box: Box, share: float) -> Box:
    by = share * min(box[2] - box[0], box[3] - box[1])
    return box[0] - by, box[1] - by, box[2] + by, box[3] + by


def _clip(box: Box, size: tuple[int, int]) -> Box:
    x0, y0, x1, y1 = box
    return max(x0, 0), max(y0, 0), min(x1, size[0]), min(y1, size[1])


def _overlap(a: Box, b: Box) -> float:
    """Intersection over the smaller area, in [0, 1]."""
    across, down = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    smaller = min((a[2] - a[0]) * (a[3] - a[1]), (b[2] - b[0]) * (b[3] - b[1]))
    return max(across, 0) * max(down, 0) / smaller if smaller > 0 else 0.0
