"""Faces: the real network on the photographs inside the scikit-image wheel."""

import pickle
from pathlib import Path

import cv2
import numpy as np
import pytest
import skimage
from PIL import Image

from u2s_datasets.errors import SetupError
from u2s_datasets.parts.detectors import centerface
from u2s_datasets.parts.detectors.engine import OnnxModel, import_openvino
from u2s_datasets.parts.detectors.faces import Faces
from u2s_datasets.parts.detectors.turns import turn_back, turned

FACES = Faces()


def photo(name):
    # Read from the wheel's folder: `skimage.data` downloads what it does not find.
    with Image.open(Path(skimage.__file__).parent / "data" / name) as image:
        return np.asarray(image.convert("RGB"))


def best(image, detector=FACES):
    return detector.detect([image])[0][0]


def share(box, within):
    """Share of `box` that lies in `within`."""
    sides = np.minimum(box[2:], within[2:]) - np.maximum(box[:2], within[:2])
    return sides.clip(0).prod() / ((box[2] - box[0]) * (box[3] - box[1]))


def test_a_face_flags_and_its_box_is_the_face():
    found = best(photo("astronaut.png"))
    assert found.category == "face" and found.score >= FACES.certain_threshold
    assert share(np.array(found.box), np.array([160, 50, 290, 240])) > 0.9


@pytest.mark.parametrize("name", ["coffee.png", "chelsea.png", "brick.png", "rocket.jpg", "page.png"])
def test_what_is_no_face_flags_nothing(name):
    assert all(d.score < FACES.flag_threshold for d in FACES.detect([photo(name)])[0])


def test_the_second_reading_tells_a_weak_face_from_a_weak_texture():
    tiny = cv2.resize(photo("astronaut.png"), (64, 64), interpolation=cv2.INTER_AREA)
    face, texture = np.zeros((320, 320, 3), np.uint8), photo("brick.png")[:320, :320]
    face[128:192, 128:192] = tiny
    first = FACES._any_way_up(face, lambda picture, threshold: FACES._read(picture, 0.75, threshold), 0.02, None)[0]
    assert FACES._second_scores(face, first[None])[0] > first[4]
    assert FACES._second_scores(texture, first[None])[0] < first[4] / 2


@pytest.mark.parametrize("turn", [90, 180, 270, 135])
def test_a_face_is_found_any_way_up(turn):
    # The head as the upright photo shows it; the photo's own face stands nearly upright.
    image = turned(photo("astronaut.png")[:300, 60:360], turn)
    found = [d for d in FACES.detect([image])[0] if d.score >= FACES.flag_threshold]
    middle = turn_back(np.array([166.0, 120.0]), -turn, (0, 0)) - turn_back(np.array([150.0, 150.0]), -turn, (0, 0))
    x, y = middle + np.array(image.shape[1::-1]) / 2
    assert any(d.box[0] < x < d.box[2] and d.box[1] < y < d.box[3] for d in found)
    assert len(found) == 1


def test_a_turned_face_beside_an_upright_one():
    head = photo("astronaut.png")[20:270, 100:350]
    small = cv2.resize(head, (120, 120), interpolation=cv2.INTER_AREA)
    image = np.full((400, 600, 3), 120, np.uint8)
    image[40:160, 40:160], image[200:320, 400:520] = small, small[::-1, ::-1]
    found = [d for d in FACES.detect([image])[0] if d.score >= FACES.flag_threshold]
    assert sorted(d.box[0] > 300 for d in found) == [False, True]
    hidden = image.copy()
    hidden[40:160, 40:160] = 0
    (left,) = FACES.residue([hidden], [[d.box for d in found]])
    assert left and all(d.box[0] > 300 for d in left)
    hidden[200:320, 400:520] = 0
    assert FACES.residue([hidden], [[d.box for d in found]]) == [[]]


def test_the_landmarks_of_a_face_on_its_head():
    image = photo("astronaut.png")
    upright = FACES.landmarks(image, best(image).box)
    over = np.ascontiguousarray(image[::-1, ::-1])
    x0, y0, x1, y1 = best(image).box
    again = FACES.landmarks(over, (512 - x1, 512 - y1, 512 - x0, 512 - y0))
    assert np.allclose(512 - again, upright, atol=9)  # a tenth of the face


def test_beside_a_certain_face_a_weak_candidate_is_hidden_only_if_it_is_read_again():
    # The moon's crater gets 0.16 at first; alone it flags nothing, beside a face it was hidden.
    image = np.concatenate([photo("astronaut.png"), photo("moon.png")], axis=1)
    assert FACES._read(image, 0.75, FACES.redact_threshold)[:, 0].max() > 512
    assert all(d.box[0] < 512 for d in FACES.detect([image])[0])


def test_the_second_network_tells_a_person_from_a_cat():
    image = photo("astronaut.png")
    person, animal = FACES._people.likeness(image, best(image).box)
    assert person > 2 * animal
    person, animal = FACES._people.likeness(photo("chelsea.png"), (140, 50, 320, 230))
    assert animal > 2 * person


def test_an_animals_head_flags_nothing():
    cat = photo("chelsea.png")
    row = np.array([[140.0, 50.0, 320.0, 230.0, 0.5, 0.0]])
    assert len(FACES._ask_for_people(cat, row)) == 0
    image = photo("astronaut.png")
    assert FACES._ask_for_people(image, np.array([[*best(image).box, 0.3, 0.0]]))[0, 4] >= FACES.flag_threshold


def test_engines_agree():
    images = [photo("astronaut.png"), photo("astronaut.png")[:301, 40:333]]
    for ours, theirs in zip(FACES.detect(images), Faces(engine="openvino").detect(images), strict=True):
        assert len(ours) == len(theirs) > 0
        for a, b in zip(ours, theirs, strict=True):
            # Float32 sums in another order: measured below 1e-4 in score and 0.01 pixels.
            assert a.score == pytest.approx(b.score, abs=1e-3)
            assert a.box == pytest.approx(b.box, abs=1.0)


def test_batch_equals_single_and_repeats_equal():
    images = [photo("astronaut.png"), photo("coffee.png"), photo("astronaut.png")[:200]]
    together = FACES.detect(images)
    assert together == [FACES.detect([image])[0] for image in images]
    assert any(together)


def test_a_panorama_is_read_in_tiles(monkeypatch):
    head = cv2.resize(photo("astronaut.png")[20:270, 100:350], (110, 110), interpolation=cv2.INTER_AREA)
    panorama = np.full((375, 9000, 3), 120, np.uint8)
    lefts = range(30, 8800, 230)
    for x in lefts:
        panorama[100:210, x : x + 110] = head
    monkeypatch.setattr(centerface, "_LARGEST_CANVAS", 1_000_000)
    assert len(centerface.tiles(281, 6750)) > 1
    found = FACES.detect([panorama])[0]
    hits = [sum(x < (d.box[0] + d.box[2]) / 2 < x + 110 and d.score > 0.5 for d in found) for x in lefts]
    assert hits == [1] * len(lefts)  # each once: none lost between tiles, none twice where they overlap


def test_a_face_larger_than_a_margin_is_found_by_the_whole_pass():
    large = cv2.resize(photo("astronaut.png")[:300, 80:380], (2000, 2000))
    assert len(centerface.tiles(1500, 1500)) == 4
    found = best(large)
    assert found.score > FACES.flag_threshold
    assert share(np.array(found.box), np.array([500, 300, 1450, 1650])) > 0.9
    assert found.box[2] - found.box[0] > 500


@pytest.mark.parametrize("shape", [(5000, 3000), (281, 9000), (1100, 2000), (1025, 5000)])
def test_the_cores_of_the_tiles_part_the_image(shape):
    for point in np.random.default_rng(0).uniform(0, 1, (200, 2)) * [shape[1], shape[0]]:
        parts = centerface.tiles(*shape)
        owners = [tile for tile, core in parts if (point >= core[:2]).all() and (point < core[2:]).all()]
        assert len(owners) == 1
        room = np.minimum(point - owners[0][:2], owners[0][2:] - point)
        edge = np.minimum(point, [shape[1] - point[0], shape[0] - point[1]])
        assert (room >= np.minimum(edge, centerface._MARGIN)).all()  # the tile shows what surrounds the point


@pytest.mark.parametrize("shape", [(1, 1), (1, 700), (700, 1), (33, 31)])
def test_tiny_images(shape):
    image = np.full((*shape, 3), 200, np.uint8)
    assert FACES.detect([image]) == [[]]
    assert FACES.residue([image], [[(0, 0, 1, 1)]]) == [[]]


def test_residue_finds_what_an_edit_left():
    image = photo("astronaut.png")
    box = best(image).box
    hidden = image.copy()
    hidden[int(box[1]) - 20 : int(box[3]) + 20, int(box[0]) - 20 : int(box[2]) + 20] = 0
    untouched, covered, elsewhere, none = FACES.residue(
        [image, hidden, image, image], [[box], [box], [(400, 400, 500, 500)], []]
    )
    assert untouched[0].score > 0.5 and untouched[0].box == pytest.approx(box, abs=8)
    assert covered == elsewhere == none == []


def test_residue_of_a_window_is_that_of_the_whole_image():
    image = photo("astronaut.png")
    wide = np.concatenate([image, np.full((512, 1500, 3), 90, np.uint8)], axis=1)
    box = best(image).box
    window, whole = FACES.residue([wide, wide], [[box], [box, (0, 0, 2012, 512)]])
    assert len(centerface.windows([box], 512, 2012)) == 1 and centerface.windows([box], 512, 2012)[0][2] < 600
    assert window[0].box == pytest.approx(whole[0].box, abs=2)
    assert window[0].score == pytest.approx(whole[0].score, abs=0.1)


def test_pickle_keeps_the_configuration_and_never_the_model():
    part = Faces(scales=(0.5, 1.0), flag_threshold=0.4)
    before = pickle.dumps(part)
    part.detect([np.zeros((32, 32, 3), np.uint8)])
    assert pickle.dumps(part) == before and len(before) < 1000
    assert pickle.loads(before) == part and pickle.loads(before).scales == (0.5, 1.0)


@pytest.mark.parametrize("wrong", [{"engine": "tpu"}, {"scales": ()}, {"scales": (0.0,)}])
def test_a_wrong_option_is_named_before_the_run(wrong):
    with pytest.raises(SetupError, match=next(iter(wrong))):
        Faces(**wrong).check()


def test_unknown_engine_names_the_value_and_the_choices():
    with pytest.raises(SetupError, match=r"'tpu'.*onnxruntime, openvino"):
        OnnxModel("any.onnx", "tpu")


def test_openvino_is_imported_without_its_telemetry():
    import_openvino()
    from openvino.tools import ovc

    assert type(ovc.telemetry).__module__ == "openvino.tools.ovc.telemetry_stub"


def test_values_that_are_no_numbers_are_an_error_and_not_nothing_found():
    image = np.full((1, 3, 64, 64), np.nan, np.float32)
    with pytest.raises(ValueError, match="not finite"):
        Faces(engine="onnxruntime").loaded(image)


def test_a_model_that_cannot_be_loaded_is_a_setup_fault():
    class Torn(Faces):
        def load(self):
            raise RuntimeError("half a file")

    with pytest.raises(SetupError, match="Torn cannot be loaded: RuntimeError: half a file"):
        Torn().detect([np.zeros((32, 32, 3), np.uint8)])
