"""An output laid over its original again: mirrored, turned by quarters, or as keypoints say that it was warped."""

from collections.abc import Iterator, Sequence

import cv2
import numpy as np

from u2s_datasets.images.geometry import Box
from u2s_datasets.images.keypoints import find_homographies

_UNCHANGED = 8  # grey levels of the median change, below which a background stays


def mirrored_pairs(pixels: np.ndarray, boxes: Sequence[Box]) -> Iterator[tuple[np.ndarray, list[Box]]]:
    """A picture and its boxes mirrored, upside down, and both."""
    height, width = pixels.shape[:2]
    for left, top in ((True, False), (False, True), (True, True)):
        yield (
            np.ascontiguousarray(pixels[:: -1 if top else 1, :: -1 if left else 1]),
            [
                (
                    width - x1 if left else x0,
                    height - y1 if top else y0,
                    width - x0 if left else x1,
                    height - y0 if top else y1,
                )
                for x0, y0, x1, y1 in boxes
            ],
        )


def turned_back(after: np.ndarray) -> Iterator[np.ndarray]:
    """An output as it was if it is a quarter turn, stretched to the old size again: both ways, also mirrored.

    The output is turned and not the original, whose boxes a wide picture would squeeze to slivers, all of them alike.
    """
    size = after.shape[1::-1]
    turned = cv2.resize(np.ascontiguousarray(after.transpose(1, 0, 2)), size, interpolation=cv2.INTER_AREA)
    for across in (1, -1):
        for down in (1, -1):
            yield np.ascontiguousarray(turned[::down, ::across])


def laid_back(
    before: np.ndarray, after: np.ndarray, boxes: Sequence[Box]
) -> Iterator[tuple[np.ndarray, np.ndarray, list[Box]]]:
    """The output laid over the original by each homography between them, and what can be seen of the boxes there."""
    height, width = before.shape[:2]
    everything = np.full(after.shape[:2], 255, np.uint8)
    for matrix in find_homographies(before, after):
        how = cv2.INTER_AREA | cv2.WARP_INVERSE_MAP
        seen = cv2.warpPerspective(everything, matrix, (width, height), flags=how) == 255
        visible = [part for box in boxes if (part := _visible(seen, box)) is not None]
        if visible:
            yield before, cv2.warpPerspective(after, matrix, (width, height), flags=how), visible


def _visible(seen: np.ndarray, box: Box) -> Box | None:
    """The part of a box of which nearly all is seen, (H, W) bool; None if there is none."""
    x0, y0, x1, y1 = (int(v) for v in (*np.floor(box[:2]), *np.ceil(box[2:])))
    inside = seen[y0:y1, x0:x1]
    if not inside.any():
        return None
    # Lines of which much less is seen than of the best one are cut off by a lean.
    rows, columns = (np.nonzero(share >= 0.5 * share.max())[0] for share in (inside.mean(1), inside.mean(0)))
    part = slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1)
    if inside[part].mean() < 0.9:
        return None
    return float(x0 + columns[0]), float(y0 + rows[0]), float(x0 + columns[-1] + 1), float(y0 + rows[-1] + 1)


def background_stays(before: np.ndarray, after: np.ndarray, boxes: Sequence[Box]) -> bool:
    """Whether most of what stands out in the picture outside the boxes is where it was; a clear sky tells nothing."""
    outside = np.ones(before.shape[:2], bool)
    for x0, y0, x1, y1 in boxes:
        outside[int(y0) : int(np.ceil(y1)), int(x0) : int(np.ceil(x1))] = False
    step = max(min(before.shape[:2]) // 256, 1)
    outside, old, new = (part[::step, ::step] for part in (outside, before, after))
    if not outside.any():
        return False
    grey = cv2.cvtColor(np.ascontiguousarray(old), cv2.COLOR_RGB2GRAY)
    steepness = cv2.morphologyEx(grey, cv2.MORPH_GRADIENT, np.ones((3, 3), np.uint8))
    outside &= steepness >= np.percentile(steepness[outside], 75)
    difference = np.abs(old.astype(np.int16) - new).max(axis=2)
    return float(np.median(difference[outside])) < _UNCHANGED
