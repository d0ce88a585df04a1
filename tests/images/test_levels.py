"""What a viewer can stretch, detectors see; what is published is the picture itself."""

import io
from pathlib import Path

import numpy as np
import pytest
import skimage
from PIL import Image, ImageDraw, ImageFont

import u2s_datasets as u2s
from u2s_datasets import columns as c
from u2s_datasets.images import stretched


def astronaut():
    with Image.open(Path(skimage.__file__).parent / "data" / "astronaut.png") as image:
        return np.asarray(image.convert("RGB"))


def squeezed(image, low, high):
    return np.rint(low + image / 255 * (high - low)).astype(np.uint8)


def test_few_levels_become_all_of_them_and_many_stay():
    photo = astronaut()
    assert stretched(photo) is photo
    dark = squeezed(photo, 0, 3)
    assert np.array_equal(np.unique(stretched(dark)), [0, 85, 170, 255])
    flat = np.full((4, 4, 3), 7, np.uint8)
    assert stretched(flat) is flat
    painted = dark.copy()
    painted[100:200] = 255
    assert np.array_equal(stretched(painted, like=dark)[:100], stretched(dark)[:100])


@pytest.mark.parametrize("levels", [(0, 3), (252, 255), (100, 106)])
def test_a_face_of_few_levels_is_hidden_in_a_picture_of_few_levels(levels):
    image = squeezed(astronaut(), *levels)
    answer = u2s.profile("cpu", detectors=["faces"]).anonymize({"image": [Image.fromarray(image)]})
    assert answer[c.STATUS] == [c.ANONYMIZED]
    output = np.asarray(answer[c.ANONYMIZED_IMAGE][0])
    assert (output[80:170, 190:260] != image[80:170, 190:260]).mean() > 0.5
    assert np.array_equal(output[400:], image[400:])


def test_a_name_burnt_into_ten_of_sixteen_bits_is_flagged():
    grey = np.random.default_rng(0).integers(200, 320, (300, 600)).astype(np.uint16)
    label = Image.new("L", (600, 300))
    ImageDraw.Draw(label).text((30, 120), "HOLLIS MARGARET 1961", fill=255, font=ImageFont.load_default(40))
    grey[np.asarray(label) > 128] = 1000
    data = io.BytesIO()
    Image.fromarray(grey).save(data, "PNG")
    (flag,) = u2s.inspect({"image": [{"bytes": data.getvalue(), "path": None}]})[c.PRIVACY_FLAG]
    assert flag
