"""The question of identity with a face network that knows faces by their pixels: what it says of whom."""

from dataclasses import dataclass, replace

import numpy as np
import pytest

from tests.helpers.fakes import ByPixels
from u2s_datasets.parts.metrics.identity import Survivors, find_survivors, known_faces
from u2s_datasets.parts.metrics.privacy import Face

LEFT, RIGHT = (10.0, 10.0, 40.0, 40.0), (60.0, 10.0, 90.0, 40.0)
NETWORK = ByPixels()
BEFORE = np.random.default_rng(0).integers(0, 255, (50, 100, 3), dtype=np.uint8)


def others() -> np.ndarray:
    return 255 - BEFORE


def test_strangers_are_nobody_of_the_original():
    known = known_faces(NETWORK, BEFORE, [LEFT, RIGHT])
    assert find_survivors(NETWORK, known, others(), [LEFT, RIGHT]) == Survivors(())


def test_a_person_is_known_at_her_place_at_another_and_mirrored():
    known = known_faces(NETWORK, BEFORE, [LEFT, RIGHT])
    after = others()
    after[10:40, 10:40] = BEFORE[10:40, 10:40]
    assert find_survivors(NETWORK, known, after, [LEFT, RIGHT]).same == (LEFT,)
    assert find_survivors(NETWORK, known, after, []).same == (LEFT,)  # a detector that overlooks her changes nothing
    after = others()
    after[10:40, 60:90] = BEFORE[10:40, 10:40]
    assert find_survivors(NETWORK, known, after, [LEFT, RIGHT]).same == (RIGHT,)
    after[10:40, 60:90] = BEFORE[10:40, 60:90][:, ::-1]
    assert find_survivors(NETWORK, known, after, [LEFT, RIGHT]).same == (RIGHT,)


def test_the_place_decides_which_threshold_holds():
    @dataclass(frozen=True)
    class Alike(ByPixels):
        """All faces have a cosine of 0.9 to each other, but for the very same pixels."""

        same: float = 0.8
        same_elsewhere: float = 0.95

        def embed_at(self, image, boxes):
            own = [face.embedding / np.linalg.norm(face.embedding) for face in super().embed_at(image, boxes)]
            return [Face(box, np.append(v * 0.1**0.5, 0.9**0.5)) for box, v in zip(boxes, own, strict=True)]

    network = Alike()
    known = known_faces(network, BEFORE, [LEFT])
    assert find_survivors(network, known, others(), [LEFT, RIGHT]).same == (LEFT,)
    assert find_survivors(network, known, others(), [LEFT, RIGHT], same=0.95).same == ()
    assert find_survivors(replace(network, same_elsewhere=0.8), known, others(), [LEFT, RIGHT]).same == (LEFT, RIGHT)


def test_what_cannot_be_told_is_not_another_person():
    small = replace(NETWORK, smallest=31)
    known = known_faces(small, BEFORE, [LEFT])
    assert known[0].embeddings.size == 0
    assert find_survivors(small, known, others(), [LEFT]) == Survivors((), unknown=(LEFT,))
    assert find_survivors(small, known, others(), [RIGHT]).unknown == (LEFT,)  # her place is read all the same


def test_a_face_that_cannot_be_read_at_a_person_s_place_may_be_hers():
    @dataclass(frozen=True)
    class Blind(ByPixels):
        """Reads nothing in a picture that is brighter on the whole than `BEFORE`."""

        def embed_at(self, image, boxes):
            return super().embed_at(image, boxes) if image.mean() < 128 else [None] * len(boxes)

    known = known_faces(Blind(), np.minimum(BEFORE, 100), [LEFT])
    bright = np.maximum(BEFORE, 160)
    assert find_survivors(Blind(), known, bright, [LEFT]) == Survivors((), unread=(LEFT,))
    assert find_survivors(Blind(), known, bright, []) == Survivors(())  # nobody found a face there either
    assert find_survivors(Blind(), known, bright, [RIGHT]) == Survivors(())


def test_a_broken_network_is_no_proof():
    @dataclass(frozen=True)
    class Dead(ByPixels):
        def embed_at(self, image, boxes):
            return [Face(box, np.zeros(8)) for box in boxes]

    with pytest.raises(ValueError, match="the encoder is broken"):
        known_faces(Dead(), BEFORE, [LEFT])
