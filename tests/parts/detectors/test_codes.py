"""Codes: real ones, drawn by zxing-cpp into the photographs inside the scikit-image wheel."""

from pathlib import Path

import numpy as np
import pytest
import skimage
from PIL import Image

import u2s_datasets as u2s
from tests.helpers.codes import code
from u2s_datasets import columns as c
from u2s_datasets.errors import SetupError
from u2s_datasets.parts.detectors.codes import grow_code

CODES = u2s.Codes()
TEXTS = {
    "QRCode": "https://example.org/hollis",
    "DataMatrix": "Margaret Hollis",
    "Aztec": "TRK0004711",
    "PDF417": "Margaret Hollis",
    "Code128": "TRK0004711",
    "EAN13": "4006381333931",
    "EAN8": "96385074",
}


def photo(name="coffee.png"):
    with Image.open(Path(skimage.__file__).parent / "data" / name) as image:
        return image.convert("RGB")


def placed(kind, turn=0, module=3, at=(30, 20)):
    """A photo with a code, and where the code is without its white paper, (H, W) bool."""
    paper = Image.fromarray(code(kind, TEXTS[kind], module)).convert("RGBA")
    inner = Image.new("L", paper.size)
    inner.paste(255, (10 * module, 10 * module, paper.width - 10 * module, paper.height - 10 * module))
    paper, inner = (p.rotate(turn, Image.Resampling.BICUBIC, expand=True) for p in (paper, inner))
    image, there = photo(), Image.new("L", photo().size)
    image.paste(paper, at, paper)
    there.paste(inner, at)
    return np.asarray(image), np.asarray(there) > 128


def hidden(found, shape):
    """(H, W) bool: what the boxes hide once they are grown."""
    mask = np.zeros(shape[:2], bool)
    for detection in found:
        x0, y0, x1, y1 = (max(round(v), 0) for v in grow_code(detection.box))
        mask[y0:y1, x0:x1] = True
    return mask


@pytest.mark.parametrize("turn", [0, 90, 180])
@pytest.mark.parametrize("kind", TEXTS)
def test_a_code_is_read_and_hidden_to_its_edges(kind, turn):
    image, there = placed(kind, turn, module=2 if kind == "Code128" else 3)
    (found,) = CODES.detect([image])
    assert found[0].score >= CODES.flag_threshold and found[0].text == TEXTS[kind]
    assert hidden(found, image.shape)[there].mean() >= 0.99
    assert CODES.residue([image], [[]])[0]


@pytest.mark.parametrize("turn", [20, 45, 70, 110])
@pytest.mark.parametrize("kind", ["QRCode", "DataMatrix", "Aztec", "Code128", "EAN13"])
def test_a_tilted_code_gives_the_box_around_it(kind, turn):
    image, there = placed(kind, turn, module=2 if kind == "Code128" else 3)
    (found,) = CODES.detect([image])
    assert found[0].text == TEXTS[kind]
    assert hidden(found, image.shape)[there].mean() >= 0.98


def test_bars_are_hidden_along_their_whole_length():
    # A reader reads one row of pixels; the other 29 modules say the same.
    image, there = placed("Code128", module=2)
    assert hidden(CODES.detect([image])[0], image.shape)[there].all()


def test_a_small_code_is_read_enlarged():
    tiny, there = placed("Aztec", turn=30, module=2)
    (found,) = CODES.detect([tiny])
    assert found[0].text == TEXTS["Aztec"] and hidden(found, tiny.shape)[there].mean() >= 0.98


def test_a_code_that_is_too_damaged_to_be_read_still_flags():
    image, there = placed("QRCode", module=5)
    rows, columns = np.nonzero(there)
    damaged, (y, x) = image.copy(), (int(rows.mean()), int(columns.mean()))
    damaged[y - 25 : y + 40, x - 25 : x + 40] = 255  # the finder patterns stay
    (found,) = CODES.detect([damaged])
    assert found[0].score >= CODES.flag_threshold and found[0].text == ""


@pytest.mark.parametrize("name", ["coffee.png", "rocket.jpg", "chelsea.png", "brick.png", "coins.png", "page.png"])
def test_a_photo_without_a_code_has_none(name):
    image = np.asarray(photo(name))
    assert not [d for d in CODES.detect([image])[0] if d.score >= CODES.flag_threshold]
    assert CODES.residue([image], [[]]) == [[]]


@pytest.mark.parametrize("shape", [(1, 1, 3), (1, 300, 3), (300, 2, 3), (16, 16, 3)])
def test_an_image_of_a_few_pixels_has_no_code(shape):
    assert CODES.detect([np.full(shape, 200, np.uint8)]) == CODES.residue([np.zeros(shape, np.uint8)], [[]]) == [[]]


def test_a_code_is_hidden_and_that_is_proven():
    image, _ = placed("QRCode")
    answer = u2s.profile("cpu", detectors=["codes"]).anonymize({"image": [Image.fromarray(image), photo()]})
    assert answer[c.STATUS] == [c.ANONYMIZED, c.SAFE]
    assert [item["category"] for item in answer[c.PRIVACY_REVIEW][0]] == ["code"]
    assert CODES.residue([np.asarray(answer[c.ANONYMIZED_IMAGE][0])], [[]]) == [[]]
    assert any(isinstance(d, u2s.Codes) for d in u2s.profile("strict").inspect.detectors)


def test_what_a_code_says_is_not_said_in_public():
    image, _ = placed("DataMatrix")
    answer = u2s.profile("cpu", detectors=["codes"]).anonymize({"image": [Image.fromarray(image)]})
    assert answer[c.PRIVACY_REVIEW][0][0]["item"] == "Margaret Hollis"
    public = " ".join(str(answer[name][0]) for name in (c.PUBLIC_CAPTION, c.EDIT_INSTRUCTION, c.EDIT_CAPTION))
    assert "Hollis" not in public and "code" in public


def test_reports_name_codes_as_looked_for_or_not():
    looked, left = u2s.Inspect(detectors=(u2s.Codes(),)).scope()
    assert any("QR" in words for words in looked) and not any("QR codes" in words for words in left)
    looked, left = u2s.Inspect(detectors=(u2s.Faces(),)).scope()
    assert sum("QR" in words for words in left) == 1 and not any("QR" in words for words in looked)


def test_without_its_reader_the_run_stops_with_the_remedy(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(SetupError, match=r"zxing-cpp is not installed.*pip install"):
        u2s.Codes().check()
