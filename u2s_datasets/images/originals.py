"""Whole pictures in small: whether two are alike where they are, and whether one shows a remembered other.

A picture is remembered by its edges on two grids. On the coarse one an output is laid over all that is remembered, in
eight positions and at four scales; the likeliest are compared on the fine one, where half a mixture still stands out.
Keypoints tell of every other turn, scale and stretch.
What stays of one's own picture does not count: an output must be more like the other than its own original is.
"""

from collections import deque
from collections.abc import Collection, Iterator
from dataclasses import dataclass

import cv2
import numpy as np

from u2s_datasets.images.correlation import FEATURES, Likeness, edges, slide
from u2s_datasets.images.keypoints import Keypoints, count_agreeing, find_keypoints, find_views

_COARSE, _FINE = 32, 64  # sides of a remembered picture
_CORES = {1.0: 24, 0.8: 18, 1.2: 18, 1.45: 18}  # scale -> side of its middle on the coarse grid, which is looked for
_CLOSER = (0.92, 0.96, 1.0, 1.04, 1.08)  # scales between those
_LIKELIEST = 6  # of those at scale 1, and of the others, that are compared on the fine grid
_SLACK = 4  # fine grid pixels
# What shows another's picture: one of these correlations with it, or all of a line. Stripes are alike in edges alone.
_ANOTHER = ({"edges": 0.6}, {"details": 0.42}, {"edges": 0.45, "tones": 0.5, "details": 0.35})
_KEYPOINTS, _LONGEST = 300, 320  # at most; pixels of the longer side at which they are found
_KEYPOINTED = 32  # pictures, the last ones, of which keypoints are kept: 7 ms of comparing each
_AGREEING = 16  # keypoints; more than make an own original resemble another row's, so that no doubt is left between
_MORE_THAN_OWN = 0.15  # by how much each is above the correlation of one's own original with it


def likeness_in_place(before: np.ndarray, after: np.ndarray) -> float:
    """Correlation of the edges of two whole pictures where they are, (H, W, 3) uint8 RGB, in [0, 1]."""
    known = _middle(_edges(before, _COARSE), 24)
    return float(slide(_edges(after, _COARSE), known[None], np.ones((1, 24, 24), np.float32)).max())


@dataclass(frozen=True)
class _Place:
    """Where a remembered picture may be in an output.

    Args:
        index: which one.
        position: quarter turns, and whether mirrored before.
        scale: how much larger it became.
        centre: (row, column) of its middle, in sides of the turned output.
        likeness: on the coarse grid, in [0, 1].
    """

    index: int
    position: tuple[int, bool]
    scale: float
    centre: tuple[float, float]
    likeness: float


class Originals:
    """Small copies of originals, by which an output is known that shows another row's picture.

    Args:
        most: how many are kept; the oldest go first.
    """

    def __init__(self, most: int) -> None:
        self._known: deque[tuple[np.ndarray, np.ndarray]] = deque(maxlen=most)
        self._keypoints: deque[Keypoints] = deque(maxlen=min(most, _KEYPOINTED))

    def add(self, pixels: np.ndarray) -> None:
        """Remember an original, (H, W, 3) uint8 RGB."""
        self._known.append((_edges(pixels, _COARSE), _squeezed(pixels, _FINE)))
        self._keypoints.append(find_keypoints(pixels, _LONGEST, _KEYPOINTS))

    def shows_another(self, original: np.ndarray, output: np.ndarray) -> bool:
        """Whether an output shows a remembered picture that its own original does not show: as it was, mirrored,
        recoloured, turned, zoomed, or as half of a mixture.

        Args:
            original, output: (H, W, 3) uint8 RGB of one size.
        """
        mine = _squeezed(original, _FINE)  # also remembered, and no other row's
        own_places = {index for index, (_, fine) in enumerate(self._known) if np.array_equal(fine, mine)}
        if self._agrees_with_another(original, output):
            return True
        original, output = (_squeezed(pixels, 2 * _FINE) for pixels in (original, output))
        for place in self._likeliest(output, own_places):
            now, own = self._likeness(output, place), self._likeness(original, place)
            for line in _ANOTHER:
                if all(now[name] >= max(least, own[name] + _MORE_THAN_OWN) for name, least in line.items()):
                    return True
        return False

    def _agrees_with_another(self, original: np.ndarray, output: np.ndarray) -> bool:
        """Whether keypoints of an output lie as those of a remembered picture, and those of its own original do not."""
        views = find_views(output, _LONGEST, _KEYPOINTS)
        alike = [known for known in self._keypoints if count_agreeing(known, views) >= _AGREEING]
        own = find_views(original, _LONGEST, _KEYPOINTS) if alike else []
        return any(not count_agreeing(known, own) for known in alike)

    def _likeliest(self, output: np.ndarray, but: Collection[int]) -> Iterator[_Place]:
        """Where on the coarse grid something remembered, but for these, is likeliest: as large as it was, and larger or
        smaller.
        """
        if self._known:
            for scales in ([1.0], [scale for scale in _CORES if scale != 1]):
                places = [place for scale in scales for place in self._places(output, scale) if place.index not in but]
                yield from sorted(places, key=lambda place: -place.likeness)[:_LIKELIEST]

    def _places(self, output: np.ndarray, scale: float) -> Iterator[_Place]:
        core, side = _CORES[scale], round(_COARSE / scale)
        templates = np.stack([_middle(coarse, core) for coarse, _ in self._known])
        for position in ((quarters, mirrored) for quarters in range(4) for mirrored in (False, True)):
            likeness = slide(_edges(_turned(output, position), side), templates, np.ones((1, core, core), np.float32))
            rows, columns = np.unravel_index(likeness.reshape(-1, len(templates)).argmax(0), likeness.shape[:2])
            for index, (row, column) in enumerate(zip(rows, columns, strict=True)):
                centre = (float(row + core / 2) / side, float(column + core / 2) / side)
                yield _Place(index, position, scale, centre, float(likeness[row, column, index]))

    def _likeness(self, pixels: np.ndarray, place: _Place) -> Likeness:
        """Correlation of a picture with a remembered one near a place, on the fine grid."""
        core = _CORES[place.scale] * _FINE // _COARSE
        known, turned = self._known[place.index][1].astype(np.float32), _turned(pixels, place.position)
        templates = {name: _middle(feature(known), core)[None] for name, feature in FEATURES.items()}
        found = dict.fromkeys(FEATURES, 0.0)
        for closer in _CLOSER:
            side = round(_FINE / (place.scale * closer))
            picture = _squeezed(turned, side).astype(np.float32)
            top, left = (max(round(centre * side - core / 2) - _SLACK, 0) for centre in place.centre)
            if min(side - top, side - left) >= core:
                for name, feature in FEATURES.items():
                    part = feature(picture)[:, top : top + core + 2 * _SLACK, left : left + core + 2 * _SLACK]
                    likeness = slide(part, templates[name], np.ones((1, core, core), np.float32))
                    found[name] = max(found[name], float(likeness.max()))
        return found


def _turned(pixels: np.ndarray, position: tuple[int, bool]) -> np.ndarray:
    return np.ascontiguousarray(np.rot90(pixels[:, ::-1] if position[1] else pixels, position[0]))


def _squeezed(pixels: np.ndarray, side: int) -> np.ndarray:
    """A picture in a square, (side, side, 3) uint8."""
    return cv2.resize(pixels, (side, side), interpolation=cv2.INTER_AREA)


def _edges(pixels: np.ndarray, side: int) -> np.ndarray:
    """The edges of a picture in a square. (2, side, side)."""
    return edges(_squeezed(pixels, side).astype(np.float32))


def _middle(feature: np.ndarray, side: int) -> np.ndarray:
    rim = (feature.shape[1] - side) // 2
    return feature[:, rim : rim + side, rim : rim + side]
