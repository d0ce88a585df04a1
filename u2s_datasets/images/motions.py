"""Where a part of one picture may have gone in another: its likeliest shifts, turns, scales and mirrors."""

from collections.abc import Iterator, Sequence
from dataclasses import replace

import cv2
import numpy as np

from u2s_datasets.images.correlation import Motion, Template, Window, edges, slide
from u2s_datasets.images.geometry import Box

TURNS = tuple(range(0, 360, 12))
"""Degrees."""
NEAR_QUARTERS = tuple(quarter + by for quarter in (0, 90, 180, 270) for by in (-12, 0, 12))
"""Degrees of upright, lying and upside down, and close to them."""
SCALES = tuple(float(s) for s in np.geomspace(0.7, 1.4, 7))
"""Those of an editor that keeps a picture's layout."""

_CLOSER_TURNS, _CLOSER_SCALES = (-6, 0, 6), (0.945, 1.0, 1.058)  # half a coarse step to both sides
_WHOLE = 128  # pixels of the longer side at which pictures are compared as a whole
_GRID, _CLOSE = 16, 24  # sides of a whole picture's part, in grid pixels: to find where it went, and to be sure


def whole_moves(before: np.ndarray, after: np.ndarray, most: int = 2) -> list[Motion]:
    """The likeliest motions of the picture as a whole, of its centre: shifts, turns, scales and mirrors."""
    return _moves_of(before, after, (0.2, 0.2, 0.8, 0.8), 0.3, TURNS, SCALES)[:most]


def far_moves(before: np.ndarray, after: np.ndarray) -> Iterator[Motion]:
    """The likeliest motion of each quarter: a picture that left on one side comes back on the other."""
    for x in (0.0, 0.5):
        for y in (0.0, 0.5):
            yield from _moves_of(before, after, (x, y, x + 0.5, y + 0.5), 2.0, NEAR_QUARTERS, (0.87, 1.0, 1.15))[:1]


def _moves_of(
    before: np.ndarray, after: np.ndarray, part: Box, reach: float, turns: Sequence[float], scales: Sequence[float]
) -> list[Motion]:
    """Motions of the picture's centre, the likeliest first, told from one part of it.

    Args:
        before, after: (H, W, 3) uint8 RGB.
        part: in widths and heights of the picture.
        reach: how far the part may have gone, in its own sides.
        turns, scales: what is tried.
    """
    zoom = min(_WHOLE / max(before.shape[:2]), 1.0)
    before, after = resized(before, zoom), resized(after, zoom)
    height, width = before.shape[:2]
    box = part[0] * width, part[1] * height, part[2] * width, part[3] * height
    coarse, close = Template(before, box, _GRID), Template(before, box, _CLOSE)
    found = list(find_motions(coarse, after, coarse.centre, reach * coarse.side, turns, scales))
    close_by = [
        replace(motion, likeness=close.likeness(window, start, motion, ["edges"], 2)["edges"])
        for start in likeliest(found, 6)
        for window in [close.look(after, start)]
        for motion in closer(start)
    ]
    to_middle = np.array([width / 2, height / 2]) - coarse.centre
    moves = []
    for motion in likeliest(close_by, len(close_by)):
        x, y = (np.array(motion.place) + motion.matrix @ to_middle) / zoom
        moves.append(replace(motion, place=(float(x), float(y))))
    return moves


def find_motions(
    template: Template,
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
        window = Window(after, centre, reach + (template.radius + 1) / zoom, zoom)
        likeness = slide(edges(window.pixels), templates, masks)
        best = likeness.max(axis=2)
        for row, column in zip(*np.nonzero(best >= cv2.dilate(best, np.ones((3, 3)))), strict=True):
            for index in np.argsort(likeness[row, column])[-2:]:
                way = ways[index]
                place = window.to_picture(column + template.radius, row + template.radius)
                yield Motion(place, way.turn, scale, way.mirrored, float(likeness[row, column, index]))


def likeliest(motions: Sequence[Motion], most: int) -> list[Motion]:
    """Those with the highest likeness, the likeliest first."""
    return sorted(motions, key=lambda motion: -motion.likeness)[:most]


def closer(start: Motion) -> Iterator[Motion]:
    """Motions between a coarse one and its neighbours, to be compared closely."""
    for turn in _CLOSER_TURNS:
        for scale in _CLOSER_SCALES:
            yield Motion(start.place, start.turn + turn, start.scale * scale, start.mirrored, start.likeness)


def resized(pixels: np.ndarray, zoom: float) -> np.ndarray:
    """A picture, (H, W, 3) uint8, `zoom` times as large; a pixel at least to each side."""
    size = max(round(pixels.shape[1] * zoom), 1), max(round(pixels.shape[0] * zoom), 1)
    return cv2.resize(pixels, size, interpolation=cv2.INTER_AREA)
