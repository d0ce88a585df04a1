"""How one picture may lie in another: homographies that keypoints agree on, for mirrored and inverted ones too.

Keypoints are SIFT's (Lowe 2004), matched by his ratio; a homography is believed where `LEAST_AGREEING` matches fit it.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import cv2
import numpy as np

LEAST_AGREEING = 10
"""Matches that fit one homography, from which it is no chance."""

_RATIO = 0.8  # of the distances to the nearest and the second nearest descriptor, below which a match counts
_REACH = 4.0  # pixels of the small picture by which a match may miss
_ENLARGED = (0.08, 12.0)  # what shrinks or grows by more is chance
_CONTRAST = 0.02  # half of SIFT's own: faces and skies are soft


@dataclass(frozen=True)
class Keypoints:
    """What stands out in a picture.

    Args:
        points: (N, 2) float32 x and y in the small picture.
        descriptors: (N, 128) uint8.
        to_small: (3, 3), from the picture's pixels to the small one's.
    """

    points: np.ndarray
    descriptors: np.ndarray
    to_small: np.ndarray


def find_keypoints(pixels: np.ndarray, longest: int = 480, most: int = 1200) -> Keypoints:
    """Keypoints of a picture.

    Args:
        pixels: (H, W, 3) uint8 RGB.
        longest: pixels of the longer side at which they are looked for.
        most: how many at most.
    """
    grey, to_small = _small(pixels, longest)
    return Keypoints(*_described(grey, most), to_small)


def find_views(pixels: np.ndarray, longest: int = 480, most: int = 1200) -> list[Keypoints]:
    """Keypoints of a picture, of its negative, and of both mirrored; `to_small` mirrors, too. As `find_keypoints`."""
    grey, to_small = _small(pixels, longest)
    flip = np.array([[-1.0, 0, grey.shape[1] - 1], [0, 1, 0], [0, 0, 1]])
    views = []
    for seen, matrix in ((grey, to_small), (np.ascontiguousarray(grey[:, ::-1]), flip @ to_small)):
        views += [Keypoints(*_described(tones, most), matrix) for tones in (seen, 255 - seen)]
    return views


def find_homographies(before: np.ndarray, after: np.ndarray, most: int = 4) -> list[np.ndarray]:
    """(3, 3) matrices from pixels of one picture to those of another in which parts of it may lie; [] for none.

    Tiles that changed places give one each. Tones may be turned over, and left and right.

    Args:
        before, after: (H, W, 3) uint8 RGB of any sizes.
        most: how many at most for each of the four views.
    """
    known = find_keypoints(before)
    return [
        np.linalg.inv(view.to_small) @ matrix @ known.to_small
        for view in find_views(after)
        for matrix, _ in _fits(known, view, most)
    ]


def count_agreeing(known: Keypoints, views: list[Keypoints]) -> int:
    """How many matches fit the best homography from a picture to one of these views; 0 below `LEAST_AGREEING`."""
    return max((number for view in views for _, number in _fits(known, view, 1)), default=0)


def _small(pixels: np.ndarray, longest: int) -> tuple[np.ndarray, np.ndarray]:
    """A picture in grey and small, and the matrix from its pixels to the small one's."""
    height, width = pixels.shape[:2]
    zoom = min(longest / max(height, width), 1.0)
    size = max(round(width * zoom), 1), max(round(height * zoom), 1)
    grey = cv2.resize(cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY), size, interpolation=cv2.INTER_AREA)
    across, down = size[0] / width, size[1] / height
    return grey, np.array([[across, 0, (across - 1) / 2], [0, down, (down - 1) / 2], [0, 0, 1]])


def _described(grey: np.ndarray, most: int) -> tuple[np.ndarray, np.ndarray]:
    points, descriptors = cv2.SIFT.create(most, contrastThreshold=_CONTRAST).detectAndCompute(grey, None)
    if descriptors is None or len(points) < 2:
        return np.zeros((0, 2), np.float32), np.zeros((0, 128), np.uint8)
    return np.array([point.pt for point in points], np.float32), descriptors.astype(np.uint8)  # whole numbers


def _fits(known: Keypoints, seen: Keypoints, most: int) -> Iterator[tuple[np.ndarray, int]]:
    """Homographies between small pictures and how many matches fit each, the one with the most first."""
    if min(len(known.points), len(seen.points)) < LEAST_AGREEING:
        return
    here, there = _matches(known, seen)
    for _ in range(most):
        if len(here) < LEAST_AGREEING:
            return
        matrix, fits = cv2.findHomography(here, there, cv2.RANSAC, _REACH)
        if matrix is None or fits.sum() < LEAST_AGREEING:
            return
        inside = fits.ravel() == 1
        if _is_believable(matrix, here[inside], there[inside]):
            yield matrix, int(inside.sum())
        here, there = here[~inside], there[~inside]


def _matches(known: Keypoints, seen: Keypoints) -> tuple[np.ndarray, np.ndarray]:
    """(M, 2) points of both small pictures whose descriptors match; one product of matrices is faster than OpenCV's."""
    ours, theirs = known.descriptors.astype(np.float32), seen.descriptors.astype(np.float32)
    distances = (ours**2).sum(1)[:, None] + (theirs**2).sum(1) - 2 * ours @ theirs.T
    nearest = distances.argmin(1)
    first = np.take_along_axis(distances, nearest[:, None], 1)[:, 0]
    np.put_along_axis(distances, nearest[:, None], np.inf, 1)
    good = first.clip(0) < _RATIO**2 * distances.min(1)
    return known.points[good], seen.points[nearest[good]]


def _is_believable(matrix: np.ndarray, here: np.ndarray, there: np.ndarray) -> bool:
    """Whether a homography rests on different points, keeps left and right, and enlarges by a believable factor."""
    if min(len(np.unique(np.rint(points), axis=0)) for points in (here, there)) < LEAST_AGREEING // 2:
        return False
    square = here.mean(0) + np.array([[-8.0, -8.0], [8.0, -8.0], [8.0, 8.0], [-8.0, 8.0]], np.float32)
    moved = cv2.perspectiveTransform(square[None].astype(np.float64), matrix)[0]
    if not np.isfinite(moved).all():
        return False
    enlarged = cv2.contourArea(moved.astype(np.float32), oriented=True) / cv2.contourArea(square, oriented=True)
    return _ENLARGED[0] ** 2 <= enlarged <= _ENLARGED[1] ** 2
