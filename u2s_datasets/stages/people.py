"""Law 9, persons: which face network is asked, and who of one row's original is left in what an editor drew."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from u2s_datasets.errors import SetupError
from u2s_datasets.parts import Box, Detection, Editor, catalog
from u2s_datasets.parts.detectors.faces import FACE
from u2s_datasets.parts.metrics.face_encoders import FaceEncoder
from u2s_datasets.parts.metrics.identity import KnownFace, find_survivors, known_faces

NO_IDENTITY = "none"


def choose_identity(default: str, given: str | FaceEncoder | None, editor: Editor) -> FaceEncoder | None:
    """The face network by name, as it is, or else the profile's; None for an editor that draws no people.

    What is installed changes nothing of it: a run on another machine would be another run.
    """
    if editor.redacts:
        if given not in (None, NO_IDENTITY):
            shown = repr(given) if isinstance(given, str) else type(given).__name__
            raise SetupError(f"identity={shown}: the editor {type(editor).__name__} draws no people; leave it out")
        return None
    name = default if given is None else given
    if name == NO_IDENTITY or isinstance(name, FaceEncoder):
        return None if isinstance(name, str) else name
    return make_identity(name)


def make_identity(name: str) -> FaceEncoder:
    """The face network of this name. Raises `SetupError` for another part, or one that a name alone does not make."""
    try:
        made = catalog.make("encoder", name, catalog.ENCODERS)
    except TypeError as error:
        raise SetupError(f"identity={name!r} takes more than a name ({error}); give it in Python as it is") from error
    if not isinstance(made, FaceEncoder):
        raise SetupError(f"identity={name!r} embeds no faces; expected a face network, such as dlib_faces, or none")
    return made


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
