"""The text detector on real pages, drawn words and textures: what it finds, what it lets pass, what it leaves."""

import pickle

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFont
from skimage import data

from u2s_datasets.errors import SetupError
from u2s_datasets.parts.detectors.text import Text
from u2s_datasets.parts.detectors.text_networks import tiles

TEXT = Text(engine="openvino")


def rgb(picture):
    picture = np.asarray(picture)
    return np.repeat(picture[..., None], 3, -1) if picture.ndim == 2 else picture[..., :3]


def drawn(words, picture, size=28):
    """`picture` with the words written at the places, and the box of each."""
    image = Image.fromarray(rgb(picture))
    pen, font = ImageDraw.Draw(image), ImageFont.load_default(size)
    boxes = []
    for word, place in words.items():
        boxes.append(pen.textbbox(place, word, font=font))
        pen.text(place, word, fill=(20, 20, 90), font=font, stroke_width=2, stroke_fill="white")
    return np.asarray(image), boxes


def filled(image, boxes):
    image = image.copy()
    for x0, y0, x1, y1 in boxes:
        image[int(y0) : int(y1), int(x0) : int(x1)] = image[int(y0) : int(y1), int(x0) : int(x1)].mean((0, 1))
    return image


def covered(box, detections):
    """Share of `box` that the detections cover."""
    x0, y0, x1, y1 = (int(v) for v in box)
    mask = np.zeros((y1 - y0, x1 - x0), bool)
    for a, b, c, d in (detection.box for detection in detections):
        mask[max(int(b) - y0, 0) : max(int(d) - y0, 0), max(int(a) - x0, 0) : max(int(c) - x0, 0)] = True
    return mask.mean()


def flagged(detections):
    return any(d.score >= TEXT.flag_threshold for d in detections)


def test_a_page_is_found_and_read():
    found = TEXT.detect([rgb(data.page())])[0]
    read = " ".join(d.text for d in found).lower()
    assert flagged(found)
    assert all(word in read for word in ("segmentation", "markers", "background", "histogram"))


def test_words_on_a_photo_are_covered_and_read():
    words = {"Meridian": (40, 40), "QX72 LMP": (300, 330)}
    image, boxes = drawn(words, data.coffee())
    found = TEXT.detect([image])[0]
    assert [covered(box, found) for box in boxes] == [1.0, 1.0]
    strong = {d.text.replace(" ", "") for d in found if d.score >= TEXT.flag_threshold}
    assert {"Meridian", "QX72LMP"} <= strong
    assert [text.replace(" ", "") for text in TEXT.read(image, boxes)] == ["Meridian", "QX72LMP"]


@pytest.mark.parametrize("name", ["brick", "grass", "chelsea"])
def test_textures_and_animals_raise_no_flag(name):
    assert not flagged(TEXT.detect([rgb(getattr(data, name)())])[0])


def test_both_engines_agree_and_a_batch_equals_single_calls():
    images = [rgb(data.page())[:60], drawn({"Harbour": (60, 60)}, data.coffee())[0][:200, :300]]
    batch = TEXT.detect(images)
    other = Text(engine="onnxruntime").detect(images)
    assert batch == [TEXT.detect([image])[0] for image in images]
    assert all(map(flagged, batch))
    for ours, theirs in zip(batch, other, strict=True):
        assert np.allclose([d.box for d in ours], [d.box for d in theirs], atol=2)
        assert [d.text for d in ours] == [d.text for d in theirs]


def test_handwritten_formulas_are_regions_but_no_proof():
    found = TEXT.detect([rgb(data.text())])[0]
    assert any(d.box[2] - d.box[0] > 150 for d in found)


def test_small_words_in_a_panorama_are_all_found():
    panorama = np.tile(rgb(data.coffee())[:375], (1, 8, 1))
    words = {f"Gate {n}B": (n * 900 + 30, 40 + n * 60) for n in range(5)}
    image, boxes = drawn(words, panorama, size=14)
    found = TEXT.detect([image])[0]
    assert min(covered(box, found) for box in boxes) > 0.95


@pytest.mark.parametrize("shape", [(1, 1), (1, 300), (700, 2)])
def test_extreme_shapes_hold_no_text(shape):
    image = np.full((*shape, 3), 90, np.uint8)
    assert TEXT.detect([image]) == [[]]
    assert TEXT.residue([image], [[(0, 0, shape[1], shape[0])]]) == [[]]


@pytest.mark.parametrize(("shape", "scale"), [((375, 12000), 2.0), ((1, 1), 2.0), ((6000, 4000), 0.25)])
def test_tiles_are_bounded_and_leave_no_gap(shape, scale):
    seen = np.zeros(shape, bool)
    for tile, (left, top), (fx, fy) in tiles(np.zeros((*shape, 3), np.uint8), scale):
        assert max(tile.shape) <= 1536
        right, bottom = left + tile.shape[1] / fx, top + tile.shape[0] / fy
        seen[max(int(top), 0) : round(bottom), max(int(left), 0) : round(right)] = True
    assert seen.all()


def test_pickle_carries_the_configuration_alone():
    detector = Text(engine="openvino", grow=0.2)
    before = pickle.dumps(detector)
    detector.detect([np.zeros((1, 1, 3), np.uint8)])
    assert pickle.dumps(detector) == before
    assert len(before) < 2000
    assert pickle.loads(before) == detector


def test_residue_is_the_uncovered_half_of_a_word_and_nothing_after_a_full_fill():
    image, ((x0, y0, x1, y1),) = drawn({"WESTBROOK": (200, 40)}, data.coffee())
    half = (x0 - 4, y0 - 4, (x0 + x1) // 2, y1 + 4)
    whole = [d.box for d in TEXT.detect([image])[0]]
    left, none = TEXT.residue([filled(image, [half]), filled(image, whole)], [[half], whole])
    assert any("RO" in d.text for d in left)
    assert all(d.score >= TEXT.flag_threshold for d in left)
    assert none == []


def test_an_unknown_engine_is_refused():
    with pytest.raises(SetupError, match="torch"):
        Text(engine="torch").check()
