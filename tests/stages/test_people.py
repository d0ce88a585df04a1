"""Who is left of an original's people, attempt by attempt, and what redaction beside them means for the others."""

import numpy as np
from PIL import Image

import u2s_datasets as u2s
from tests.helpers.fakes import ByPixels
from u2s_datasets.parts import Detection
from u2s_datasets.stages.batch import Row
from u2s_datasets.stages.people import FaceMemory, People
from u2s_datasets.stages.row_edit import RowEdit

LEFT, RIGHT = Detection("face", (10.0, 10.0, 40.0, 40.0), 0.9), Detection("face", (60.0, 10.0, 90.0, 40.0), 0.9)
WORD = Detection("text", (10.0, 42.0, 90.0, 49.0), 0.9, "Zoe")
BEFORE = np.random.default_rng(0).integers(0, 255, (50, 100, 3), dtype=np.uint8)
BOXES = [LEFT.box, RIGHT.box]


def boxes_of(people: People) -> list:
    return [d.box for d in people.left]


def test_only_faces_are_people():
    for identity in (ByPixels(), None):
        assert FaceMemory(identity, BEFORE, [WORD]).look(BEFORE, [LEFT, WORD]) == People([])


def test_without_a_network_all_faces_of_both_images_are_left_and_another_attempt_is_in_vain():
    moved = Detection("face", (30.0, 10.0, 50.0, 30.0), 0.3)
    people = FaceMemory(None, BEFORE, [LEFT]).look(255 - BEFORE, [moved, WORD])
    assert boxes_of(people) == [LEFT.box, moved.box] and people.is_final


def test_who_is_recognised_may_be_gone_at_the_next_attempt_and_who_was_never_known_is_not():
    memory = FaceMemory(ByPixels(), BEFORE, [LEFT, RIGHT])
    assert memory.look(BEFORE, [LEFT, RIGHT]) == People(
        [*FaceMemory(None, BEFORE, [LEFT, RIGHT]).look(BEFORE, []).left]
    )
    assert memory.look(255 - BEFORE, [LEFT, RIGHT]) == People([])
    unknown = FaceMemory(ByPixels(smallest=31), BEFORE, [LEFT]).look(255 - BEFORE, [LEFT])
    assert boxes_of(unknown) == [LEFT.box] and unknown.is_final


def test_redaction_of_one_face_leaves_its_new_neighbour():
    """The detector still finds the neighbour beside what is hidden. He is nobody of the original."""
    large = Detection("face", (58.0, 8.0, 92.0, 42.0), 0.9)
    edit = RowEdit(Row(Image.fromarray(BEFORE), {}), {}, [LEFT, large], True, [])
    drawn = np.random.default_rng(1).integers(0, 255, BEFORE.shape, dtype=np.uint8)
    edit.accept(Image.fromarray(drawn), u2s.FaceAnonSimple(), 0)
    edit.found = [LEFT, large]
    edit.recognise(ByPixels(smallest=31))  # too small to be told from others
    edit.record_residue(u2s.FaceAnonSimple())
    assert {d.box for d in edit.residue} == {LEFT.box}
    edit.redact_residue()
    redact = u2s.Redact(method="solid")
    (output,) = redact.edit([edit.to_edit(redact, 0, 0)])
    edit.accept(output, redact, 0)
    edit.found = [Detection("face", (59.0, 9.0, 92.0, 42.0), 0.4)]
    edit.record_residue(redact)
    assert edit.residue == []
    edit.found = [LEFT]
    edit.record_residue(redact)
    assert edit.residue == [LEFT]
