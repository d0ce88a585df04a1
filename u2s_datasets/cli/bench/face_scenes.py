"""Pictures with faces any way up, of which the places are known, for `u2s bench detect`."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from u2s_datasets.cli.bench.scenes import Scene
from u2s_datasets.errors import SetupError
from u2s_datasets.parts.detectors.centerface import face_crop, resize
from u2s_datasets.parts.detectors.faces import Faces
from u2s_datasets.parts.detectors.turns import turn_back, turned

TURNS = (0, 90, 180, 270, 40)
SIZES = (32, 48, 64, 96)
"""Pixels to a side of the faces that are put into other photos."""
_CERTAIN = 0.8  # score from which a face of a photo is taken for one, and its box for the truth
_HEAD = 3  # side of what is put into another photo, in sides of the face
_ROOM = 9  # least side of a photo that faces are put into, in sides of a face
_FOUND = 0.2  # score from which a face counts as found by a stranger
_DETECTOR = Faces(engine="openvino")


class _Face(NamedTuple):
    """A face that stands upright in a photo: (H, W, 3) uint8, and (x0, y0, x1, y1) in its pixels."""

    photo: np.ndarray
    box: np.ndarray


def face_scenes(photos: Sequence[np.ndarray], rows: int) -> Iterator[Scene]:
    """For each of `TURNS` photos turned as a whole; for each of `SIZES` photos with an upright and a turned face.

    Each of such a pair counts by itself.

    Args:
        photos: (H, W, 3) uint8 RGB; faces are taken from those in which one is certain, and put into the others.
        rows: pictures per cell, 1 or more.

    Raises:
        SetupError: no photo holds a certain face, or all of them hold one.
    """
    found = [_DETECTOR.detect([photo])[0] for photo in photos]
    certain = [
        _Face(photo, np.array(d.box))
        for photo, detections in zip(photos, found, strict=True)
        for d in detections
        if d.score >= _CERTAIN
    ]
    others = [photo for photo, detections in zip(photos, found, strict=True) if not detections]
    if not certain or not others:
        raise SetupError("the photos need a certain face, and one of them none; give a folder that has both")
    rng = np.random.default_rng(0)
    for turn in TURNS:
        for row in range(rows):
            yield _whole(certain[row % len(certain)], turn)
    for size in SIZES:
        for row in range(rows):
            pair = [certain[i] for i in rng.integers(len(certain), size=2)]
            yield from _pair(others[row % len(others)], pair, size, TURNS[1 + row % (len(TURNS) - 1)], rng)


def is_face_found(image: np.ndarray) -> bool:
    """Whether CenterFace, as anybody runs it, finds a face in (H, W, 3) uint8 RGB or in one of its quarter turns."""
    return any(len(_DETECTOR._read(turned(image, turn), 1.0, _FOUND)) > 0 for turn in (0, 90, 180, 270))


def _whole(face: _Face, turn: int) -> Scene:
    return Scene(turned(face.photo, turn), "whole picture", _quad(face.box, face.photo.shape, turn), f"{turn}°")


def _quad(box: np.ndarray, shape: Sequence[int], turn: int) -> np.ndarray:
    """(4, 2) corners of a box of an image of this shape, after the image was turned."""
    corners = box[[[0, 1], [2, 1], [2, 3], [0, 3]]]
    size = turned(np.zeros((*shape[:2], 3), np.uint8), turn).shape[1::-1]
    middle = np.array(shape[1::-1]) / 2
    return turn_back(corners - middle, -turn, (0, 0)) + np.array(size) / 2


def _pair(photo: np.ndarray, faces: Sequence[_Face], size: int, turn: int, rng: np.random.Generator) -> Iterator[Scene]:
    """One picture as two scenes: an upright face in one half of the photo, and a turned one in the other."""
    scale = max(1.0, _ROOM * size / min(photo.shape[:2]))
    picture = resize(photo, round(photo.shape[1] * scale), round(photo.shape[0] * scale)).copy()
    height, width = picture.shape[:2]
    halves = [(0, width // 2), (width // 2, width)] if width >= height else [(0, height // 2), (height // 2, height)]
    quads = []
    for face, angle, (low, high) in zip(faces, (0, turn), halves, strict=True):
        head, quad = _head(face, size, angle)
        side = head.shape[0]
        x, y = (int(rng.integers(end - side + 1)) for end in (width, height))
        along = int(rng.integers(low, high - side + 1))
        x, y = (along, y) if width >= height else (x, along)
        part = picture[y : y + side, x : x + side]
        part[:] = part + _disc(side, _HEAD * size) * (head.astype(float) - part)
        quads.append(quad + np.array([x, y]))
    yield Scene(picture, f"upright, {size} px", quads[0], f"upright beside {turn}°")
    yield Scene(picture, f"turned, {size} px", quads[1], f"{turn}° beside upright")


def _head(face: _Face, size: int, turn: int) -> tuple[np.ndarray, np.ndarray]:
    """A square around a face with `size` pixels to the face's side, turned, and the (4, 2) corners of the face."""
    crop, box = face_crop(face.photo, face.box, size, _HEAD)
    return turned(crop, turn), _quad(box, crop.shape, turn)


def _disc(side: int, diameter: float) -> np.ndarray:
    """(side, side, 1) weights: 1 within a disc, 0 beyond it, soft between, so that no corner gives the face away."""
    y, x = np.mgrid[:side, :side] - (side - 1) / 2
    return np.clip((diameter / 2 - np.hypot(x, y)) / (0.06 * diameter), 0, 1)[..., None]
