"""Law 9: whether what stood in a box of the original still stands in the edited image.

The evidence is three correlations of `correlation`: edges, tones and details.

Each is asked in place, where little is needed, and of what moved: looked for coarsely at every turn, at scales of 0.45
to 2.25, as large as the picture and mirrored, then compared closely where it is likeliest; there more is needed, since
the best of thousands of places is taken. An output whose background changed is also laid over the original again as
its keypoints say. The smaller a box, the more is needed too. The thresholds are those that part copies from honest
rewritings on real photos, measured by `docs/scripts/measure_copies.py`.
"""

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

import cv2
import numpy as np

from u2s_datasets.images.correlation import FEATURES, RIM, Likeness, Motion, Template, Window, side_of, slide
from u2s_datasets.images.geometry import Box, clip_box
from u2s_datasets.images.motions import (
    NEAR_QUARTERS,
    SCALES,
    TURNS,
    closer,
    far_moves,
    find_motions,
    likeliest,
    resized,
    whole_moves,
)
from u2s_datasets.images.realigned import background_stays, laid_back, mirrored_pairs, turned_back

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
_FAR_SCALES = (0.45, 0.5, 0.56, 0.62, 1.57, 1.77, 2.0, 2.25)  # tried at turns near quarters
_FILLED = tuple(float(s) for s in np.geomspace(1.0, 3.2, 9))  # sides of the output in sides of a box that fills it
_FAR = 2.5  # sides of the box from the middle of such an output, at most
_LIKELIEST = 12  # places that are compared closely
_REACH, _LEAST_REACH = 0.5, 18.0  # around a box, as a share of its side and in pixels
_CHANGED, _GAP, _ELSEWHERE = 24, 9, 16  # grey levels; pixels between what belongs together; squares that are searched
_TOUCHED = 4.0  # grey levels of mean change, more than compression makes
_ASPECT, _PIECES = 2.5, 4  # longer boxes are judged in so many pieces of this aspect


def find_copies(before: np.ndarray, after: np.ndarray, boxes: Sequence[Box], places: Sequence[Box] = ()) -> list[bool]:
    """Whether what stood in each box of the original is still in the edited image, or cannot be proven gone.

    A copy is looked for in place, around its box, around `places`, where it must lie if the picture was mirrored or
    moved as a whole, and, where most of the background is as it was, wherever else something changed. True also for a
    box that is outside the picture or has less than `LEAST_SIDE`; False for a flat one.

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
    pairs: Iterator[tuple[np.ndarray, np.ndarray, Sequence[Box]]]  # made one by one: each is as large as the picture
    pairs = ((pixels, after, placed) for pixels, placed in mirrored_pairs(before, inside))
    if inside and not background_stays(before, after, inside):
        moves = [*whole_moves(before, after), *far_moves(before, after)]
        quarters = ((before, back, inside) for back in turned_back(after))
        pairs = itertools.chain(pairs, quarters, laid_back(before, after, inside))
    for pixels, output, placed in pairs:
        pieces = [piece for box in placed for piece in _pieces(box) if _can_be_proven(piece)]
        if any(_differs(before, after, piece) and stays_in_place(pixels, output, piece) for piece in pieces):
            return [True] * len(boxes)
    if moves and any(_fills_picture(before, after, piece) for box in inside for piece in _pieces(box)):
        return [True] * len(boxes)
    elsewhere = list(_changed_elsewhere(before, after, inside)) if not moves else []
    return [
        box is None or any(_is_copied(before, after, piece, places, moves, elsewhere) for piece in _pieces(box))
        for box in clipped
    ]


def stays_in_place(before: np.ndarray, after: np.ndarray, box: Box) -> bool:
    """Whether what stood in a box stands there still, to one grid pixel; False for a flat box.

    Args:
        before, after: (H, W, 3) uint8 RGB of one size.
        box: inside the picture.
    """
    return not is_flat(before, box) and _stays(Template(before, box, _MIDDLE), Template(before, box, _FINE), after)


def detail_stays(before: np.ndarray, after: np.ndarray, box: Box, asked: np.ndarray | None = None) -> bool:
    """Whether the finest band of a box is that of the original; fills, even blurred or pixelated ones, lack it.

    Args:
        before, after: (H, W, 3) uint8 RGB of one size.
        box: inside the picture.
        asked: (h, w) bool, the pixels of the box that are compared; None for all of them.
    """
    x0, y0, x1, y1 = (int(v) for v in (*np.floor(box[:2]), *np.ceil(box[2:])))
    old, new = (p[y0:y1, x0:x1].astype(np.float32) - cv2.blur(p[y0:y1, x0:x1], (3, 3)) for p in (before, after))
    if asked is not None:
        share = cv2.resize(asked.astype(np.float32), (x1 - x0, y1 - y0), interpolation=cv2.INTER_NEAREST)[..., None]
        old, new = old * share, new * share
    scale = float(np.sqrt((old**2).sum() * (new**2).sum()))
    return scale > 0 and abs(float((old * new).sum())) / scale >= MAX_DETAIL


def _is_copied(
    before: np.ndarray,
    after: np.ndarray,
    box: Box,
    places: Sequence[Box],
    moves: Sequence[Motion],
    elsewhere: Sequence[Box],
) -> bool:
    side = side_of(box)
    if not _can_be_proven(box):
        return True
    if is_flat(before, box):
        return False
    if side > 2 * _FINE:  # no grid is finer, and smaller pictures are faster
        zoom = 2 * _FINE / side
        before, after, box = resized(before, zoom), resized(after, zoom), _times(box, zoom)
        places, elsewhere = ([_times(place, zoom) for place in group] for group in (places, elsewhere))
        moves = [replace(move, place=(move.place[0] * zoom, move.place[1] * zoom)) for move in moves]
    middle, fine = Template(before, box, _MIDDLE), Template(before, box, _FINE)
    if _stays(middle, fine, after) or _slid(middle, after):
        return True
    coarse = Template(before, box, _COARSE)
    likely = likeliest(list(_everywhere(coarse, after, places, moves, (before.shape[1], before.shape[0]))), _LIKELIEST)
    likely += likeliest([motion for square in elsewhere for motion in _in_square(coarse, after, square)], _LIKELIEST)
    return any(_has_moved(middle, fine, after, start) for start in likely)


def _fills_picture(before: np.ndarray, after: np.ndarray, box: Box) -> bool:
    """Whether a box, with little around it, was made as large as the picture, stretched or not."""
    if not _can_be_proven(box) or is_flat(before, box):
        return False
    zoom = min(_FINE / side_of(box), 1.0)
    small, box = resized(before, zoom), _times(box, zoom)
    coarse, middle, fine = (Template(small, box, grid) for grid in (_COARSE, _MIDDLE, _FINE))
    width, height = box[2] - box[0], box[3] - box[1]
    shown = width / after.shape[1], height / after.shape[0]
    found: list[tuple[Motion, np.ndarray]] = []
    for across, down in (shown, (min(shown), min(shown)), (max(shown), max(shown))):
        for filled in _FILLED:
            size = max(round(after.shape[1] * across * filled), 8), max(round(after.shape[0] * down * filled), 8)
            output = cv2.resize(after, size, interpolation=cv2.INTER_AREA)
            # Not all of a strip: the window is a square, and in a long output the box fills the height alone.
            reach = min(max(size) / 2 - side_of(box) / 4, _FAR * side_of(box))
            motions = list(find_motions(coarse, output, (size[0] / 2, size[1] / 2), reach, NEAR_QUARTERS, (1.0,)))
            found += [(motion, output) for motion in likeliest(motions, 2)]
    best = sorted(found, key=lambda pair: -pair[0].likeness)[:_LIKELIEST]
    return any(_has_moved(middle, fine, output, start) for start, output in best)


def _stays(middle: Template, fine: Template, after: np.ndarray) -> bool:
    here = Motion(middle.centre)
    edge = middle.likeness(middle.look(after, here), here, here, ["edges"], 1)
    rest = fine.likeness(fine.look(after, here), here, here, ["tones", "details"], 1)
    return _exceeds(edge | rest, _IN_PLACE, middle.side)


def _slid(middle: Template, after: np.ndarray) -> bool:
    """Whether it is around its box, upright, as it was or mirrored."""
    reach = _reach(middle.side)
    window = Window(after, middle.centre, reach + (middle.radius + RIM) / middle.zoom, middle.zoom)
    ways = [Motion(middle.centre, mirrored=mirrored) for mirrored in (False, True)]
    likeness = {
        name: float(
            slide(
                FEATURES[name](window.pixels),
                np.stack([middle.turned(FEATURES[name], way) for way in ways]),
                middle.upright[None],
            ).max()
        )
        for name in _SLID
    }
    return _exceeds(likeness, _SLID, middle.side)


def _everywhere(
    coarse: Template, after: np.ndarray, places: Sequence[Box], moves: Sequence[Motion], size: tuple[int, int]
) -> Iterator[Motion]:
    """Where it may be: around its box in every way, and at the other places much as these have it."""
    reach = _reach(coarse.side)
    yield from find_motions(coarse, after, coarse.centre, reach, TURNS, SCALES)
    yield from find_motions(coarse, after, coarse.centre, reach, NEAR_QUARTERS, _FAR_SCALES)
    for x0, y0, x1, y1 in places:
        centre, scale = ((x0 + x1) / 2, (y0 + y1) / 2), side_of((x0, y0, x1, y1)) / coarse.side
        if max(abs(centre[0] - coarse.centre[0]), abs(centre[1] - coarse.centre[1])) > reach:
            yield from find_motions(
                coarse, after, centre, reach / 2, (-24, -12, 0, 12, 24), (scale / 1.15, scale, scale * 1.15)
            )
    for move in moves:
        offset = move.matrix @ (np.array(coarse.centre) - np.array(size) / 2)
        centre = (move.place[0] + float(offset[0]), move.place[1] + float(offset[1]))
        turns = [move.turn + by for by in (-12, 0, 12)]
        yield from find_motions(coarse, after, centre, reach, turns, [move.scale * by for by in (0.88, 1.0, 1.14)])


def _in_square(coarse: Template, after: np.ndarray, square: Box) -> Iterator[Motion]:
    """Where it may be in a square of the output, as large as it was, upright, lying or upside down."""
    x0, y0, x1, y1 = square
    yield from find_motions(coarse, after, ((x0 + x1) / 2, (y0 + y1) / 2), (x1 - x0) / 2, NEAR_QUARTERS, (1.0,))


def _has_moved(middle: Template, fine: Template, after: np.ndarray, start: Motion) -> bool:
    """Whether it is where a likely motion says, or nearly."""
    window = middle.look(after, start)
    for motion in closer(start):
        if _exceeds(middle.likeness(window, start, motion, ["edges", "tones"], 2), _MOVED, middle.side):
            return True
    return _exceeds(fine.likeness(fine.look(after, start), start, start, ["details"], 3), _MOVED, middle.side)


def _exceeds(likeness: Likeness, thresholds: Mapping[str, tuple[float, ...]], side: float) -> bool:
    return any(value >= np.interp(side, _SIDES, thresholds[name]) for name, value in likeness.items())


def _can_be_proven(box: Box) -> bool:
    return side_of(box) >= LEAST_SIDE


def is_flat(pixels: np.ndarray, box: Box) -> bool:
    """Whether a box inside a picture, (H, W, 3) uint8, shows nothing that could be copied."""
    x0, y0, x1, y1 = (int(v) for v in (*np.floor(box[:2]), *np.ceil(box[2:])))
    return bool(pixels[y0:y1, x0:x1].std(axis=(0, 1)).max() < FLAT)


def _times(box: Box, zoom: float) -> Box:
    return box[0] * zoom, box[1] * zoom, box[2] * zoom, box[3] * zoom


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


def _changed_elsewhere(before: np.ndarray, after: np.ndarray, boxes: Sequence[Box]) -> Iterator[Box]:
    """Squares of the output that cover what changed where nobody looks for a copy as it is; the largest changes first.

    No more than `_ELSEWHERE`: an editor that draws the background anew has no place that stands out.
    """
    changed = (np.abs(before.astype(np.int16) - after).max(axis=2) >= _CHANGED).astype(np.uint8)
    for box in boxes:
        x0, y0, x1, y1 = (int(max(v, 0)) for v in (*np.subtract(box[:2], 0.5 * _reach(side_of(box))), *box[2:]))
        by = int(0.5 * _reach(side_of(box)))
        changed[y0 : y1 + by, x0 : x1 + by] = 0
    joined = cv2.morphologyEx(changed, cv2.MORPH_CLOSE, np.ones((_GAP, _GAP), np.uint8))  # letters become a line
    parts = sorted(cv2.connectedComponentsWithStats(joined)[2][1:], key=lambda part: -part[4])
    squares = [square for part in parts for square in _squares(*(float(v) for v in part[:4]))]
    yield from squares[:_ELSEWHERE]


def _squares(x: float, y: float, width: float, height: float) -> Iterator[Box]:
    """Squares that cover a rectangle; none if too little of it can be seen."""
    side = min(width, height)
    if side * max(width, height) < LEAST_SIDE**2:
        return
    along = np.linspace(side / 2, max(width, height) - side / 2, int(np.ceil(max(width, height) / side)))
    for at in along:
        middle = (x + float(at), y + height / 2) if width >= height else (x + width / 2, y + float(at))
        yield middle[0] - side / 2, middle[1] - side / 2, middle[0] + side / 2, middle[1] + side / 2


def _differs(before: np.ndarray, after: np.ndarray, box: Box) -> bool:
    """Whether an editor touched a box, so that what stands there now may have come from elsewhere."""
    x0, y0, x1, y1 = (int(v) for v in (*np.floor(box[:2]), *np.ceil(box[2:])))
    return float(np.abs(before[y0:y1, x0:x1].astype(np.int16) - after[y0:y1, x0:x1]).mean()) >= _TOUCHED
