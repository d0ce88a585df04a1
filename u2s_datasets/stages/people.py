"""Law 9 for one row's edit: the people of the original must not come back in what a rewriting editor drew."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from u2s_datasets.parts import Box, Detection
from u2s_datasets.parts.detectors.faces import FACE
from u2s_datasets.parts.metrics.face_encoders import FaceEncoder
from u2s_datasets.parts.metrics.identity import KnownFace, find_survivors, known_faces


class People(NamedTuple):
    """What of an original's people is left in an edited image, as residue.

    Args:
        left: faces to edit once more, or to redact.
        is_final: whether no other attempt could show more: somebody's face is there, and nobody can tell whose.
    """

    left: list[Detection]
    is_final: bool = False


class FaceMemory:
    """The faces of one original, embedded once for all attempts.

    Args:
        identity: the face network; None where there is none, so that nobody can tell one face from another.
        image: the original, (H, W, 3) uint8 RGB.
        detections: what was found in it.
    """

    def __init__(self, identity: FaceEncoder | None, image: np.ndarray, detections: Sequence[Detection]) -> None:
        self._identity, self._boxes = identity, _faces(detections)
        self._known: list[KnownFace] = []
        if identity is not None:
            self._known = known_faces(identity, image, self._boxes)

    def look(self, output: np.ndarray, found: Sequence[Detection]) -> People:
        """Who is still there in an edited image, in which detectors found this."""
        there = _faces(found)
        if not self._boxes:
            return People([])
        if self._identity is None:
            return People(_detections([*self._boxes, *there]), is_final=True)
        survivors = find_survivors(self._identity, self._known, output, there)
        again = [*survivors.same, *survivors.unread]
        return People(_detections([*again, *survivors.unknown]), is_final=not again and bool(survivors.unknown))


def _faces(detections: Sequence[Detection]) -> list[Box]:
    return list(dict.fromkeys(d.box for d in detections if d.category == FACE.name))


def _detections(boxes: Sequence[Box]) -> list[Detection]:
    return [Detection(FACE.name, box, 1.0) for box in dict.fromkeys(boxes)]
