"""Law 9: whether what stood in a box of the original still stands in the edited image.

Three kinds of evidence, each a correlation in [0, 1] whatever its sign:

- *edges*: where edges run and how they lean, in all colours at once. The doubled angle of a gradient is the same
  whether a tone rises or falls, so inverted, posterised and false colours leave it as it is.
- *tones*: the band-passed grey picture. It survives noise, which breaks edges.
- *details*: the same in a finer band. Two faces in one pose are alike when coarse and hardly in detail, and a mixture
  of half with anything keeps half of every detail.

Each is asked in place, where little is needed, and of what moved: looked for coarsely at every turn, at scales of 0.7
to 1.4 and mirrored, then compared closely where it is likeliest; there more is needed, since the best of thousands of
places is taken. The smaller a box, the more is needed too. The thresholds are those that part copies from honest
rewritings on real photos, measured by `docs/scripts/measure_copies.py`.
"""

from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import cv2
import numpy as np

from u2s_datasets.images.geometry import Box, clip_box

LEAST_SIDE = 12.0
"""Pixels, square root of a box's area. Below it nothing can be proven, and every box counts as copied."""
MAX_DETAIL = 0.6
"""Correlation of the finest band from which a box still shows its original's detail."""
FLAT = 1.5
"""Grey levels of standard deviation. A box that varies less shows nothing that could be copied."""

_SIDES = (14.0, 20.0, 32.0, 48.0)  # pixels, the sides for which thresholds are given; in between they are interpolated
_IN_PLACE = {"edges": (0.47, 0.42, 0.42, 0.44), "tones": (0.70, 0.60, 0.58, 0.45), "details": (0.48, 0.44, 0.35, 0.28)}
_SLID = {"tones": (0.86, 0.76, 0.70, 0.66), "details": (0.66, 0.58, 0.50, 0.42)}
_MOVED = {"edges": (0.80, 0.77, 0.64, 0.62), "tones": (0.90, 0.86, 0.78, 0.75), "details": (0.80, 0.72, 0.54, 0.46)}

_COARSE, _MIDDLE, _FINE = 12, 24, 48  # side of a box in grid pixels, at most; never above its own
_TURNS = tuple(range(0, 360, 12))
_SCALES = tuple(float(s) for s in np.geomspace(0.7, 1.4, 7))
_CLOSER_TURNS, _CLOSER_SCALES = (-6, 0, 6), (0.945, 1.0, 1.058)  # half a coarse step to both sides
_LIKELIEST = 12  # places that are compared closely
_REACH, _LEAST_REACH = 0.5, 18.0  # around a box, as a share of its side and in pixels
_WHOLE = 128  # pixels of the longer side at which pictures are compared as a whole
_THUMBNAIL, _SHIFT = 32, 4  # side of a remembered picture, and by how much it may have moved
_ANOTHER, _MORE_THAN_OWN = 0.6, 0.2  # correlation with another's picture, and above that of one's own with it
_RIM = 8  # grid pixels around a patch that filters may read
_ASPECT, _PIECES = 2.5, 4  # longer boxes are judged in so many pieces of this aspect

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

_FEATURES: dict[str, Feature] = {"edges": edges, "tones": tones, "details": details}


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


class _Window:
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


class _Template:
    """What stood in a box, on a grid in which its side is `grid` pixels or its own if that is fewer."""

    def __init__(self, pixels: np.ndarray, box: Box, grid: int) -> None:
        x0, y0, x1, y1 = box
        self.side = _side(box)
        self.centre = ((x0 + x1) / 2, (y0 + y1) / 2)
        self.zoom = min(grid, self.side) / self.side
        self.half_size = (x1 - x0) * self.zoom / 2, (y1 - y0) * self.zoom / 2
        self.radius = int(np.ceil(max(self.half_size)))
        self.window = _Window(pixels, self.centre, (self.radius + _RIM + 2) * 1.5 / self.zoom, self.zoom)
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
        patch = self.window.patch(self.centre, np.linalg.inv(motion.matrix), self.radius + _RIM)
        return _without_rim(feature(patch)) * self.mask(np.linalg.inv(motion.matrix))

    def feature(self, name: str) -> np.ndarray:
        """A feature of the box as it was; masked. (C, k, k)."""
        if name not in self._features:
            self._features[name] = self.turned(_FEATURES[name], Motion(self.centre))
        return self._features[name]

    def look(self, after: np.ndarray, motion: Motion) -> _Window:
        """What of the output has to be seen to compare it with this where a motion, or one close to it, went."""
        zoom = self.zoom / motion.scale
        return _Window(after, motion.place, (self.radius + _RIM + 5) * 1.55 / zoom, zoom)

    def likeness(self, window: _Window, seen: Motion, motion: Motion, names: Sequence[str], slack: int) -> Likeness:
        """Feature -> correlation with what stands in the output where this went, shifted by up to `slack`.

        Args:
            window, seen: from `look`, and the motion that it was given.
            motion: where this went, close to `seen`.
            names: the features.
            slack: grid pixels.
        """
        patch = window.patch(motion.place, motion.matrix / seen.scale, self.radius + _RIM + slack)
        return {
            name: float(
                _slide(_without_rim(_FEATURES[name](patch)), self.feature(name)[None], self.upright[None]).max()
            )
            for name in names
        }


def _without_rim(feature: np.ndarray) -> np.ndarray:
    return feature[:, _RIM:-_RIM, _RIM:-_RIM]


def _slide(feature: np.ndarray, templates: np.ndarray, masks: np.ndarray) -> np.ndarray:
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


def find_copies(before: np.ndarray, after: np.ndarray, boxes: Sequence[Box], places: Sequence[Box] = ()) -> list[bool]:
    """Whether what stood in each box of the original is still in the edited image, or cannot be proven gone.

    A copy is looked for in place, around its box, around `places`, and where it must lie if the picture was moved as
    a whole. True also for a box that is outside the picture or has less than `LEAST_SIDE`; False for a flat one.

    Args:
        before, after: (H, W, 3) uint8 RGB of one size.
        boxes: ungrown detections in `before`, in pixels.
        places: boxes in `after` in which something was found.

    Raises:
        ValueError: the sizes differ.
    """
    if before.shape != after.shape:
        raise ValueError(f"cannot compare pictures of {before.shape} and {after.shape}; expected one size")
    clipped = [clip_box(box, (before.shape[1], before.shape[0])) for box in boxes]
    inside = [box for box in clipped if box is not None]
    moves: list[Motion] = []
    if inside and not _background_stays(before, after, inside):
        moves = whole_moves(before, after)
        provable = [box for box in inside if _can_be_proven(box)]
        if any(stays_in_place(before, pixels, box) for pixels in _turned_back(after) for box in provable):
            return [True] * len(boxes)
    return [box is None or any(_is_copied(before, after, p, places, moves) for p in _pieces(box)) for box in clipped]


def stays_in_place(before: np.ndarray, after: np.ndarray, box: Box) -> bool:
    """Whether what stood in a box stands there still, to one grid pixel; False for a flat box.

    Args:
        before, after: (H, W, 3) uint8 RGB of one size.
        box: inside the picture.
    """
    return not _is_flat(before, box) and _stays(_Template(before, box, _MIDDLE), _Template(before, box, _FINE), after)


def detail_stays(before: np.ndarray, after: np.ndarray, box: Box) -> bool:
    """Whether the finest band of a box is that of the original; fills, even blurred or pixelated ones, lack it.

    Args:
        before, after: (H, W, 3) uint8 RGB of one size.
        box: inside the picture.
    """
    x0, y0, x1, y1 = (int(v) for v in (*np.floor(box[:2]), *np.ceil(box[2:])))
    old, new = (p[y0:y1, x0:x1].astype(np.float32) - cv2.blur(p[y0:y1, x0:x1], (3, 3)) for p in (before, after))
    scale = float(np.sqrt((old**2).sum() * (new**2).sum()))
    return scale > 0 and abs(float((old * new).sum())) / scale >= MAX_DETAIL


def likeness_in_place(before: np.ndarray, after: np.ndarray) -> float:
    """Correlation of the edges of two whole pictures where they are, (H, W, 3) uint8 RGB, in [0, 1]."""
    known = _thumbnail(before)[None, :, _SHIFT:-_SHIFT, _SHIFT:-_SHIFT]
    return float(_slide(_thumbnail(after), known, np.ones((1, *known.shape[2:]), np.float32)).max())


def whole_moves(before: np.ndarray, after: np.ndarray, most: int = 2) -> list[Motion]:
    """The likeliest motions of the picture as a whole, of its centre: shifts, turns, scales and mirrors."""
    zoom = min(_WHOLE / max(before.shape[:2]), 1.0)
    before, after = _resized(before, zoom), _resized(after, zoom)
    height, width = before.shape[:2]
    middle = (0.2 * width, 0.2 * height, 0.8 * width, 0.8 * height)
    coarse, close = _Template(before, middle, 16), _Template(before, middle, _MIDDLE)
    found = list(_coarse(coarse, after, coarse.centre, 0.3 * coarse.side, _TURNS, _SCALES))
    closer = [
        replace(motion, likeness=close.likeness(window, start, motion, ["edges"], 2)["edges"])
        for start in _likeliest(found, 6)
        for window in [close.look(after, start)]
        for motion in _closer(start)
    ]
    return [
        replace(motion, place=(motion.place[0] / zoom, motion.place[1] / zoom)) for motion in _likeliest(closer, most)
    ]


def _turned_back(after: np.ndarray) -> Iterator[np.ndarray]:
    """An output as it was if it is a quarter turn, stretched to the old size again: both ways, also mirrored.

    The output is turned and not the original, whose boxes a wide picture would squeeze to slivers, all of them alike.
    """
    size = after.shape[1::-1]
    turned = cv2.resize(np.ascontiguousarray(after.transpose(1, 0, 2)), size, interpolation=cv2.INTER_AREA)
    for across in (1, -1):
        for down in (1, -1):
            yield np.ascontiguousarray(turned[::down, ::across])


def _is_copied(before: np.ndarray, after: np.ndarray, box: Box, places: Sequence[Box], moves: Sequence[Motion]) -> bool:
    side = _side(box)
    if not _can_be_proven(box):
        return True
    if _is_flat(before, box):
        return False
    if side > 2 * _FINE:  # no grid is finer, and smaller pictures are faster
        zoom = 2 * _FINE / side
        before, after, box = _resized(before, zoom), _resized(after, zoom), _times(box, zoom)
        places = [_times(place, zoom) for place in places]
        moves = [replace(move, place=(move.place[0] * zoom, move.place[1] * zoom)) for move in moves]
    middle, fine = _Template(before, box, _MIDDLE), _Template(before, box, _FINE)
    if _stays(middle, fine, after) or _slid(middle, after):
        return True
    coarse = _Template(before, box, _COARSE)
    likely = _likeliest(list(_everywhere(coarse, after, places, moves, (before.shape[1], before.shape[0]))), _LIKELIEST)
    return any(_has_moved(middle, fine, after, start) for start in likely)


def _stays(middle: _Template, fine: _Template, after: np.ndarray) -> bool:
    here = Motion(middle.centre)
    edge = middle.likeness(middle.look(after, here), here, here, ["edges"], 1)
    rest = fine.likeness(fine.look(after, here), here, here, ["tones", "details"], 1)
    return _exceeds(edge | rest, _IN_PLACE, middle.side)


def _slid(middle: _Template, after: np.ndarray) -> bool:
    """Whether it is around its box, upright, as it was or mirrored."""
    reach = _reach(middle.side)
    window = _Window(after, middle.centre, reach + (middle.radius + _RIM) / middle.zoom, middle.zoom)
    ways = [Motion(middle.centre, mirrored=mirrored) for mirrored in (False, True)]
    likeness = {
        name: float(
            _slide(
                _FEATURES[name](window.pixels),
                np.stack([middle.turned(_FEATURES[name], way) for way in ways]),
                middle.upright[None],
            ).max()
        )
        for name in _SLID
    }
    return _exceeds(likeness, _SLID, middle.side)


def _everywhere(
    coarse: _Template, after: np.ndarray, places: Sequence[Box], moves: Sequence[Motion], size: tuple[int, int]
) -> Iterator[Motion]:
    """Where it may be: around its box in every way, and at the other places much as these have it."""
    reach = _reach(coarse.side)
    yield from _coarse(coarse, after, coarse.centre, reach, _TURNS, _SCALES)
    for x0, y0, x1, y1 in places:
        centre, scale = ((x0 + x1) / 2, (y0 + y1) / 2), _side((x0, y0, x1, y1)) / coarse.side
        if max(abs(centre[0] - coarse.centre[0]), abs(centre[1] - coarse.centre[1])) > reach:
            yield from _coarse(
                coarse, after, centre, reach / 2, (-24, -12, 0, 12, 24), (scale / 1.15, scale, scale * 1.15)
            )
    for move in moves:
        offset = move.matrix @ (np.array(coarse.centre) - np.array(size) / 2)
        centre = (move.place[0] + float(offset[0]), move.place[1] + float(offset[1]))
        turns = [move.turn + by for by in (-12, 0, 12)]
        yield from _coarse(coarse, after, centre, reach, turns, [move.scale * by for by in (0.88, 1.0, 1.14)])


def _coarse(
    template: _Template,
    after: np.ndarray,
    centre: tuple[float, float],
    reach: float,
    turns: Sequence[float],
    scales: Sequence[float],
) -> Iterator[Motion]:
    """The motions to peaks of likeness around a point of the output, by edges on a coarse grid."""
    ways = [Motion(centre, turn, 1.0, mirrored) for turn in turns for mirrored in (False, True)]
    templates = np.stack([template.turned(edges, way) for way in ways])
    masks = np.stack([template.mask(np.linalg.inv(way.matrix)) for way in ways])
    for scale in scales:
        zoom = template.zoom / scale
        window = _Window(after, centre, reach + (template.radius + 1) / zoom, zoom)
        likeness = _slide(edges(window.pixels), templates, masks)
        best = likeness.max(axis=2)
        for row, column in zip(*np.nonzero(best >= cv2.dilate(best, np.ones((3, 3)))), strict=True):
            for index in np.argsort(likeness[row, column])[-2:]:
                way = ways[index]
                place = window.to_picture(column + template.radius, row + template.radius)
                yield Motion(place, way.turn, scale, way.mirrored, float(likeness[row, column, index]))


def _likeliest(motions: Sequence[Motion], most: int) -> list[Motion]:
    return sorted(motions, key=lambda motion: -motion.likeness)[:most]


def _closer(start: Motion) -> Iterator[Motion]:
    for turn in _CLOSER_TURNS:
        for scale in _CLOSER_SCALES:
            yield Motion(start.place, start.turn + turn, start.scale * scale, start.mirrored, start.likeness)


def _has_moved(middle: _Template, fine: _Template, after: np.ndarray, start: Motion) -> bool:
    """Whether it is where a likely motion says, or nearly."""
    window = middle.look(after, start)
    for motion in _closer(start):
        if _exceeds(middle.likeness(window, start, motion, ["edges", "tones"], 2), _MOVED, middle.side):
            return True
    return _exceeds(fine.likeness(fine.look(after, start), start, start, ["details"], 3), _MOVED, middle.side)


def _exceeds(likeness: Likeness, thresholds: Mapping[str, tuple[float, ...]], side: float) -> bool:
    return any(value >= np.interp(side, _SIDES, thresholds[name]) for name, value in likeness.items())


def _can_be_proven(box: Box) -> bool:
    return _side(box) >= LEAST_SIDE


def _is_flat(pixels: np.ndarray, box: Box) -> bool:
    x0, y0, x1, y1 = (int(v) for v in (*np.floor(box[:2]), *np.ceil(box[2:])))
    return bool(pixels[y0:y1, x0:x1].std(axis=(0, 1)).max() < FLAT)


def _side(box: Box) -> float:
    """The square root of a box's area."""
    return float(np.sqrt((box[2] - box[0]) * (box[3] - box[1])))


def _times(box: Box, zoom: float) -> Box:
    return box[0] * zoom, box[1] * zoom, box[2] * zoom, box[3] * zoom


def _resized(pixels: np.ndarray, zoom: float) -> np.ndarray:
    size = max(round(pixels.shape[1] * zoom), 1), max(round(pixels.shape[0] * zoom), 1)
    return cv2.resize(pixels, size, interpolation=cv2.INTER_AREA)


def _reach(side: float) -> float:
    return max(_REACH * side, _LEAST_REACH)


def _pieces(box: Box) -> list[Box]:
    """A box, or square-like pieces of a long one: no single grid suits a line of text."""
    x0, y0, x1, y1 = box
    long, short = max(x1 - x0, y1 - y0), min(x1 - x0, y1 - y0)
    number = min(int(np.ceil(long / short / _ASPECT)), _PIECES)
    if number == 1:
        return [box]
    length = min(long / number, _ASPECT * short)
    starts = np.linspace(0, long - length, number)
    if x1 - x0 > y1 - y0:
        return [(x0 + float(s), y0, x0 + float(s) + length, y1) for s in starts]
    return [(x0, y0 + float(s), x1, y0 + float(s) + length) for s in starts]


def _background_stays(before: np.ndarray, after: np.ndarray, boxes: Sequence[Box]) -> bool:
    """Whether most of the picture outside the boxes is where it was."""
    outside = np.ones(before.shape[:2], bool)
    for x0, y0, x1, y1 in boxes:
        outside[int(y0) : int(np.ceil(y1)), int(x0) : int(np.ceil(x1))] = False
    step = max(min(before.shape[:2]) // 128, 1)
    outside = outside[::step, ::step]
    if not outside.any():
        return False
    difference = np.abs(before[::step, ::step].astype(np.int16) - after[::step, ::step])
    return float(np.median(difference.max(axis=2)[outside])) < 8


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
            likeness = _slide(_thumbnail(np.ascontiguousarray(turned)), known, masks)
            np.maximum(found, likeness.max(axis=(0, 1)), out=found)
    return found


def _thumbnail(pixels: np.ndarray) -> np.ndarray:
    small = cv2.resize(pixels, (_THUMBNAIL, _THUMBNAIL), interpolation=cv2.INTER_AREA)
    return edges(small.astype(np.float32))


def _unit(feature: np.ndarray) -> np.ndarray:
    return feature / (np.linalg.norm(feature) + 1e-6)
