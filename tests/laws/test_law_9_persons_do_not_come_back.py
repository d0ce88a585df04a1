"""Law 9, persons: no face of an original comes back in a rewritten picture, at its place or at another's.

What needs the face network runs where it is installed; the Makefile finds these tests by the words
"is not installed: pip install".
"""

import io
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import pytest
import skimage.data
from PIL import Image

import u2s_datasets as u2s
from tests.helpers.fakes import Rewriter
from tests.helpers.people import crowd, needs_network
from u2s_datasets import columns as c
from u2s_datasets.parts import Edit, Editor
from u2s_datasets.parts.metrics.identity import find_survivors, known_faces
from u2s_datasets.stages.anonymize import _recent_originals
from u2s_datasets.stages.inspect import Inspect

FACES = Inspect(detectors=(u2s.Faces(),))


def jpeg(image: np.ndarray) -> np.ndarray:
    stream = io.BytesIO()
    Image.fromarray(image).save(stream, "JPEG", quality=20)
    return np.asarray(Image.open(stream))


def turned(image: np.ndarray, degrees: float, scale: float = 1.0) -> np.ndarray:
    about = cv2.getRotationMatrix2D((226, 120), degrees, scale)
    return cv2.warpAffine(image, about, image.shape[1::-1], borderMode=cv2.BORDER_REFLECT)


LIES: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "shifted": lambda image: np.roll(image, 8, axis=1),
    "far away": lambda image: np.roll(image, 200, axis=1),
    "mirrored": lambda image: image[:, ::-1],
    "compressed": jpeg,
    "zoomed": lambda image: turned(image, 0, 1.1),
    "turned": lambda image: turned(image, 9),
    "recoloured": lambda image: image[:, :, [2, 0, 1]],
    "dark and shifted": lambda image: (np.roll(image, 4, axis=0) * 0.4).astype(np.uint8),
}


@pytest.fixture(autouse=True)
def nothing_seen_before():
    """What other tests edited in this process is no other row of these."""
    _recent_originals.cache_clear()


@dataclass(frozen=True)
class Draws(Editor):
    """A rewriting editor that gives a lie of `LIES`, or else another crowd."""

    how: str

    def edit(self, edits: Sequence[Edit]) -> list[Image.Image]:
        return [Image.fromarray(np.ascontiguousarray(self._drawn(np.asarray(e.image)))) for e in edits]

    def _drawn(self, image: np.ndarray) -> np.ndarray:
        if self.how in LIES:
            return LIES[self.how](image)
        drawn = crowd([int(n) for n in self.how.split()])
        return cv2.resize(drawn, image.shape[1::-1], interpolation=cv2.INTER_AREA)


def rewritten(image: np.ndarray, how: str, identity: u2s.FaceEncoder | None, **options) -> tuple[dict, list[dict]]:
    """The answer of `Anonymize` and its attempts."""
    step = u2s.Anonymize(editor=Draws(how), identity=identity, inspect=FACES, format="png", **options)
    answer = step({"image": [Image.fromarray(image)]})
    return answer, json.loads(answer[c.PROVENANCE][0])["attempts"]


@needs_network
@pytest.mark.parametrize("lie", LIES)
def test_the_same_person_is_never_published(lie):
    photo = skimage.data.astronaut()
    network = u2s.DlibFaces()
    answer, attempts = rewritten(photo, lie, network, attempts=1)
    assert [a["redacts"] for a in attempts] == [False, True] and attempts[0]["residue"] > 0
    boxes = [d.box for d in network.detector.detect([photo])[0]]
    if answer[c.STATUS] != [c.WITHHELD]:
        output = np.asarray(answer[c.ANONYMIZED_IMAGE][0])
        found = [d.box for d in network.detector.detect([output])[0]]
        assert find_survivors(network, known_faces(network, photo, boxes), output, found).same == ()


@needs_network
def test_other_people_at_their_places_pass_at_the_first_attempt():
    answer, attempts = rewritten(crowd(range(5)), "40 41 42 43 44", u2s.DlibFaces())
    assert answer[c.STATUS] == [c.ANONYMIZED]
    assert [(a["editor"], a["residue"]) for a in attempts] == [("Draws", 0)]


@needs_network
def test_people_who_changed_places_are_still_there():
    _, attempts = rewritten(crowd(range(5)), "1 2 3 4 0", u2s.DlibFaces(), attempts=1)
    assert attempts[0]["residue"] >= 4 and attempts[-1]["redacts"]


@needs_network
def test_faces_too_small_to_tell_are_redacted_and_not_tried_again():
    answer, attempts = rewritten(crowd(range(5)), "40 41 42 43 44", u2s.DlibFaces(smallest=200))
    assert [(a["editor"], a["redacts"]) for a in attempts] == [("Draws", False), ("Redact", True)]
    assert answer[c.STATUS] == [c.ANONYMIZED]


def test_without_a_face_network_faces_are_redacted_instead_of_rewritten():
    photo = crowd(range(3))
    answer, attempts = rewritten(photo, "15 16 17", None)
    assert [(a["editor"], a["redacts"]) for a in attempts] == [("Draws", False), ("Redact", True)]
    assert answer[c.STATUS] == [c.ANONYMIZED]
    assert u2s.Faces().residue([np.asarray(answer[c.ANONYMIZED_IMAGE][0])], [[(0, 0, 444, 148)]]) == [[]]


def test_a_row_without_faces_needs_no_face_network():
    things = Image.fromarray(skimage.data.coffee())
    step = u2s.Anonymize(editor=Rewriter(), inspect=FACES, boxes_column="boxes", format="png")
    answer = step({"image": [things], "boxes": [[[100, 100, 200, 200]]]})
    last = json.loads(answer[c.PROVENANCE][0])["attempts"][-1]
    assert (last["editor"], last["residue"]) == ("Rewriter", 0)


def test_redaction_asks_no_face_network():
    photo = Image.fromarray(skimage.data.astronaut())
    answer = u2s.Anonymize(inspect=FACES)({"image": [photo]})
    assert answer[c.STATUS] == [c.ANONYMIZED] and json.loads(answer[c.PROVENANCE][0])["identity"] is None
