"""Outlines of what is hidden: polygons that follow heads and lines of text, and do not spell what they hide."""

import math
from collections.abc import Callable, Sequence

import numpy as np

from u2s_datasets.images.geometry import Box

Outline = tuple[tuple[float, float], ...]
"""Corners (x, y) of a convex polygon in pixels of the upright image, in order; three or more."""

Shape = Callable[[Box, Outline | None], Outline]
"""From a detection's box and its outline, if it has one, to the outline that hides it, not clipped to the image."""

HEAD_WIDTH, HEAD_HEIGHT, HEAD_UP = 1.66, 1.47, 0.02
"""A head over the box of its face: its width, its height, and how far its middle lies above the box's, in heights."""
ROUNDNESS = 2.5
"""Exponent of the superellipse of a head: hair and jaw fill the corners of an ellipse (2)."""
LINE_MARGIN, LINE_STEPS = 0.06, 4
"""Of a line's height: what is added on all sides, and how many steps of the grid to which its edges go outwards."""
LINE_START, LINE_LENGTH = 1.5, 3.4
"""Steps, in heights of the outline, to which a line's start and length are rounded. The outline of our own detector is
1.3 times as high as the line, so that lengths are multiples of four line heights: they tell a name among 20 in 10% of
trials (chance 5%), where the exact length did in 45%."""
Window = tuple[int, int, int, int]
"""(x0, y0, x1, y1) in whole pixels inside the image, x1 and y1 exclusive."""

_TURN = 3.0  # degrees to which the lean of a line is rounded
_CORNERS = 40  # of a head's outline


def corners(box: Box) -> Outline:
    """A box as an outline."""
    x0, y0, x1, y1 = box
    return (x0, y0), (x1, y0), (x1, y1), (x0, y1)


def bounds(outline: Sequence[tuple[float, float]]) -> Box:
    """The upright box around an outline."""
    xs, ys = zip(*outline, strict=True)
    return min(xs), min(ys), max(xs), max(ys)


def head_outline(box: Box, landmarks: np.ndarray | None = None) -> Outline:
    """The head around a face, hair, ears and chin included, turned with its eyes.

    Args:
        box: of the face, from the eyebrows to the chin.
        landmarks: (5, 2) x and y of both eyes, the nose and both corners of the mouth; None for an upright head.
    """
    x0, y0, x1, y1 = box
    turn = 0.0 if landmarks is None else _lean_of_face(box, landmarks)
    cos, sin = math.cos(turn), math.sin(turn)
    # The upright box of a face that lies on its side is as wide as the face is high.
    width = (x1 - x0) * cos**2 + (y1 - y0) * sin**2
    height = (y1 - y0) * cos**2 + (x1 - x0) * sin**2
    angles = np.arange(_CORNERS) * (2 * math.pi / _CORNERS)
    across, down = (np.sign(v) * np.abs(v) ** (2 / ROUNDNESS) for v in (np.cos(angles), np.sin(angles)))
    across, down = across * HEAD_WIDTH * width / 2, (down * HEAD_HEIGHT / 2 - HEAD_UP) * height
    x = (x0 + x1) / 2 + across * cos - down * sin
    y = (y0 + y1) / 2 + across * sin + down * cos
    return tuple(zip(x.tolist(), y.tolist(), strict=True))


def _lean_of_face(box: Box, landmarks: np.ndarray) -> float:
    """By how much a face is turned, in radians; 0 where the landmarks are not those of a face."""
    eyes, mouth = landmarks[1] - landmarks[0], landmarks[3:].mean(0) - landmarks[:2].mean(0)
    side, apart = math.sqrt((box[2] - box[0]) * (box[3] - box[1])), float(np.hypot(*eyes))
    below = float(eyes[0] * mouth[1] - eyes[1] * mouth[0]) / max(apart, 1e-6)
    if not (0.2 < apart / side < 1.0 and 0.2 < below / side < 1.0):
        return 0.0
    return math.atan2(eyes[1], eyes[0])


def cover_head(box: Box, outline: Outline | None) -> Outline:
    """The head: the outline as it is, and without one that of an upright head."""
    return outline or head_outline(box)


def cover_line(box: Box, outline: Outline | None) -> Outline:
    """A rectangle along a line of text, with its accents and tails, whose place and size are rounded.

    How long a word is, and whether a letter sticks out, would tell it among a few candidates. So the edges lie on a
    grid whose step is a share of the height, itself rounded, and whose origin is the image's.

    Args:
        box: of the line.
        outline: its four corners, clockwise from the top left of the text.
    """
    quad = np.array(outline if outline is not None and len(outline) == 4 else corners(box), float)
    along, down = (quad[1] - quad[0] + quad[2] - quad[3]) / 2, (quad[3] - quad[0] + quad[2] - quad[1]) / 2
    length, height = float(np.hypot(*along)), float(np.hypot(*down))
    if height > 2 * length:  # a column; of a single letter, it is the height that counts
        along, length, height = down, height, min(height, 1.5 * length)
    lean = math.radians(round(math.degrees(math.atan2(along[1], along[0])) / _TURN) * _TURN)
    axes = np.array([[math.cos(lean), math.sin(lean)], [-math.sin(lean), math.cos(lean)]])
    unit = 2 ** (round(4 * math.log2(max(height, 4.0))) / 4)
    at = quad @ axes.T
    (start, top), (end, bottom) = at.min(0) - LINE_MARGIN * unit, at.max(0) + LINE_MARGIN * unit
    step = unit / LINE_STEPS
    top, bottom = math.floor(top / step) * step, math.ceil(bottom / step) * step
    start = math.floor(start / (LINE_START * unit)) * LINE_START * unit
    end = start + math.ceil((end - start) / (LINE_LENGTH * unit)) * LINE_LENGTH * unit
    rectangle = np.array(corners((start, top, end, bottom))) @ axes
    return tuple((float(x), float(y)) for x, y in rectangle)


def cover_box(grow: Callable[[Box], Box]) -> Shape:
    """The shape of what has no better one: its grown box."""
    return lambda box, _: corners(grow(box))


def pixels_of(outlines: Sequence[Outline], size: tuple[int, int], by: int = 0) -> tuple[Window, np.ndarray]:
    """The pixels that outlines touch, in a window of whole pixels.

    Args:
        outlines: in pixels, all finite.
        size: (width, height) of the image.
        by: how many pixels the window is wider than the outlines on each side.

    Returns:
        The window (x0, y0, x1, y1), clipped to the image, empty for outlines outside it; and (y1 - y0, x1 - x0) bool.
    """
    import cv2  # only here: detections and boxes need none of it

    boxes = [bounds(outline) for outline in outlines]
    low, high = np.min(boxes, axis=0)[:2] - by, np.max(boxes, axis=0)[2:] + by
    x0, y0 = (int(v) for v in np.floor(low).clip(0, size))
    x1, y1 = (int(v) for v in np.ceil(high).clip(0, size))
    window = x0, y0, max(x1, x0), max(y1, y0)
    inside = np.zeros((window[3] - y0, window[2] - x0), np.uint8)
    for outline, box in zip(outlines, boxes, strict=True):
        left, top = (max(math.floor(v), 0) for v in (box[0] - x0, box[1] - y0))
        part = inside[top : max(math.ceil(box[3] - y0), 0), left : max(math.ceil(box[2] - x0), 0)]
        if set(outline) == set(corners(box)):
            part[:] = 1
        elif part.size:  # the middle of a pixel, which is (0.5, 0.5) here, is (0, 0) to OpenCV
            points = np.rint((np.array(outline) - [x0 + left + 0.5, y0 + top + 0.5]) * 16).astype(np.int32)
            cv2.fillPoly(touched := np.zeros(part.shape, np.uint8), [points], 1, shift=4)
            part |= touched
    return window, inside.astype(bool)
