"""People: the real network on the photographs inside the scikit-image wheel."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import skimage
from PIL import Image

import u2s_datasets as u2s
from u2s_datasets import columns as c
from u2s_datasets.parts.detectors import people
from u2s_datasets.parts.detectors.centerface import overlap

PEOPLE = u2s.People()


def photo(name):
    with Image.open(Path(skimage.__file__).parent / "data" / name) as image:
        return np.asarray(image.convert("RGB"))


def best(image, detector=PEOPLE):
    return detector.detect([image])[0][0]


def test_a_person_flags_and_the_box_is_all_of_her():
    found = best(photo("astronaut.png"))
    assert found.category == "person" and found.score >= PEOPLE.flag_threshold
    x0, y0, x1, y1 = found.box  # she fills the lower part of the photo, from the left edge to two thirds
    assert x0 < 30 and y0 < 60 and x1 > 350 and y1 > 490


def test_a_person_is_found_without_a_face():
    image = photo("astronaut.png").copy()
    image[40:250, 140:310] = image[300:301, 10:11]
    assert best(image).score >= PEOPLE.flag_threshold


@pytest.mark.parametrize("turn", [1, 2, 3])
def test_a_turned_photo_gives_the_turned_box(turn):
    image = photo("astronaut.png")
    found = np.array([best(np.ascontiguousarray(np.rot90(image, turn))).box])
    upright = best(image).box
    back = people.turn_back(np.array([[*upright, 1.0]]), (4 - turn) % 4, np.rot90(image, turn).shape[:2])
    assert overlap(found, back[0])[0] > 0.8


@pytest.mark.parametrize("turn", [0, 1, 2, 3])
def test_turning_back_undoes_a_turn(turn):
    marked = np.zeros((50, 80), np.uint8)
    marked[10:20, 30:70] = 1
    ys, xs = np.nonzero(np.rot90(marked, turn))
    row = np.array([[xs.min(), ys.min(), xs.max() + 1, ys.max() + 1, 1.0]])
    assert people.turn_back(row, turn, marked.shape).tolist() == [[30, 10, 70, 20, 1]]


@pytest.mark.parametrize("name", ["coffee.png", "rocket.jpg", "chelsea.png", "brick.png", "coins.png"])
def test_a_photo_without_people_has_none(name):
    assert all(d.score < PEOPLE.flag_threshold for d in PEOPLE.detect([photo(name)])[0])


def test_both_engines_see_the_same():
    ours, other = (
        best(photo("astronaut.png"), dataclasses.replace(PEOPLE, engine=e)) for e in ("onnxruntime", "openvino")
    )
    assert np.allclose([*ours.box, 100 * ours.score], [*other.box, 100 * other.score], atol=0.1)


def test_a_wide_and_a_tall_photo_keep_their_shape():
    # The astronaut beside a wide, and above a tall, grey field: the box goes along.
    image, field = photo("astronaut.png"), np.full((512, 512, 3), 128, np.uint8)
    wide, tall = (best(np.concatenate(pair, axis)).box for pair, axis in (((field, image), 1), ((field, image), 0)))
    assert wide[0] > 500 and tall[1] > 500
    assert np.allclose(np.array(wide) - [512, 0, 512, 0], np.array(tall) - [0, 512, 0, 512], atol=25)


def test_strict_hides_whole_people_and_cpu_does_not():
    image = Image.fromarray(photo("astronaut.png"))
    strict, cpu = (u2s.profile(name) for name in ("strict", "cpu"))
    assert cpu.inspect.categories == ("face", "text")
    assert strict.inspect.categories == ("face", "text", "code", "person")
    answer = u2s.profile("strict", detectors=["people"]).anonymize({"image": [image]})
    assert answer[c.STATUS] == [c.ANONYMIZED]
    output = np.asarray(answer[c.ANONYMIZED_IMAGE][0])
    assert PEOPLE.residue([output], [[best(photo("astronaut.png")).box]]) == [[]]


def test_residue_is_what_is_still_there_where_something_was_hidden():
    image = photo("astronaut.png")
    assert PEOPLE.residue([image], [[(0.0, 0.0, 400.0, 512.0)]])[0]
    assert PEOPLE.residue([image], [[]]) == [[]]


def test_reports_name_bodies_as_looked_for_or_not():
    looked, left = u2s.Inspect(detectors=(u2s.Faces(), u2s.People())).scope()
    assert any("people as a whole" in words for words in looked) and not any("backs" in words for words in left)
    assert any("backs" in words for words in u2s.Inspect().scope()[1])


def test_an_output_that_is_missing_is_an_error_and_not_nobody():
    with pytest.raises(ValueError, match=r"no output of shape \(1, 2704, 80\)"):
        people.decode([np.zeros((1, 169, 80))], 0.4)
