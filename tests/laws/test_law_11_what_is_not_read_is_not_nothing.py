"""Law 11, what could not be read is not nothing: text that is found and cannot be read flags its picture."""

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFont
from skimage import data

from u2s_datasets.cli.bench.text_scenes import SCRIPTS, Line, find_fonts, write_line
from u2s_datasets.errors import SetupError
from u2s_datasets.parts.detectors.text import Text
from u2s_datasets.parts.detectors.text_lines import are_on_one_line, lay_level, quad_of

TEXT = Text(engine="openvino")


def is_flagged(image):
    return any(d.score >= TEXT.flag_threshold for d in TEXT.detect([image])[0])


def covered(quad, detections):
    """Share of the upright box around `quad` that the detections cover."""
    (x0, y0), (x1, y1) = quad.min(0).astype(int), quad.max(0).astype(int)
    mask = np.zeros((y1 - y0, x1 - x0), bool)
    for a, b, c, d in (detection.box for detection in detections):
        mask[max(int(b) - y0, 0) : max(int(d) - y0, 0), max(int(a) - x0, 0) : max(int(c) - x0, 0)] = True
    return mask.mean()


def sign(text, turn=0, size=30):
    """The coffee photo with a sign in Pillow's own font, and its box."""
    font = ImageFont.load_default(size)
    board = Image.new("RGB", (int(font.getlength(text)) + 24, size + 20), "white")
    ImageDraw.Draw(board).text((12, 6), text, fill=(20, 20, 60), font=font)
    board = board.rotate(turn, expand=True)
    photo = Image.fromarray(data.coffee())
    photo.paste(board, (60, 40))
    return np.asarray(photo), (60, 40, 60 + board.width, 40 + board.height)


@pytest.mark.parametrize("script", ["Cyrillic", "Arabic", "Bengali", "Ethiopic", "Khmer"])
def test_a_line_in_a_script_that_nobody_reads_flags_and_is_hidden(script):
    try:
        font = find_fonts(script)[0]
    except SetupError as error:
        pytest.skip(str(error))
    for number, size in enumerate((22, 40)):
        line = Line(SCRIPTS[script].lines[number], font, size)
        scene = write_line(data.coffee(), line, np.random.default_rng(number))
        found = TEXT.detect([scene.image])[0]
        assert any(d.score >= TEXT.flag_threshold for d in found)
        assert covered(scene.quad, found) >= 0.9


@pytest.mark.parametrize("turn", [90, 135, 180])
def test_a_line_that_lies_on_its_side_or_head_flags_and_is_hidden(turn):
    image, (x0, y0, x1, y1) = sign("Quarry Hill", turn)
    found = [d for d in TEXT.detect([image])[0] if d.score >= TEXT.flag_threshold]
    assert found and covered(quad_of((x0 + 14, y0 + 14, x1 - 14, y1 - 14)), found) >= 0.7


@pytest.mark.parametrize("turn", [0, 180])
def test_what_is_left_far_along_an_edited_line_is_residue(turn):
    image, (x0, y0, x1, y1) = sign("Margaret and Hollis")
    hidden, name = (x0 + 6, y0 + 6, x0 + 96, y1 - 6), (x1 - 90, y0 + 10, x1 - 14, y1 - 10)
    image = image.copy()
    image[y0 + 6 : y1 - 6, x0 + 6 : x1 - 100] = 255  # nothing near them, and a name at the other end
    if turn == 180:
        image, width, height = np.ascontiguousarray(image[::-1, ::-1]), image.shape[1], image.shape[0]
        hidden, name = ((width - x1, height - y1, width - x0, height - y0) for x0, y0, x1, y1 in (hidden, name))
    (left,) = TEXT.residue([image], [[hidden]])
    assert covered(quad_of(name), left) >= 0.9
    assert all(d.score >= TEXT.flag_threshold for d in left)
    assert TEXT.residue([data.coffee()], [[hidden]]) == [[]]


def test_textures_that_look_like_lines_do_not_flag():
    fence = np.full((300, 600, 3), 200, np.uint8)
    fence[100:160, 50:550:9] = 40  # bars
    fence[200:240, 50:550:20] = 90
    assert not is_flagged(fence)
    assert not any(is_flagged(np.repeat(getattr(data, name)()[..., None], 3, -1)) for name in ("brick", "gravel"))


@pytest.mark.parametrize("turn", [0, 10, 45, 90, 135, 200])
def test_a_line_is_laid_level_at_any_turn(turn):
    """The line's own pixels, all of one colour, lie where the box says, and nothing else does."""
    angle = np.deg2rad(turn)
    along, down = np.array([np.cos(angle), np.sin(angle)]), np.array([-np.sin(angle), np.cos(angle)])
    quad = np.array([200, 150]) + np.array([-along * 60 - down * 10, along * 60 - down * 10, along * 60 + down * 10,
                                            -along * 60 + down * 10])  # fmt: skip
    ys, xs = np.mgrid[:300, :400]
    offsets = np.stack([xs - 200, ys - 150], -1)
    inside = (abs(offsets @ along) <= 60) & (abs(offsets @ down) <= 10)
    image = np.repeat(inside[..., None] * np.uint8(255), 3, -1)
    level, (x0, y0, x1, y1) = lay_level(image, quad.astype(np.float32), 30, 1.0)
    assert level[int(y0) + 3 : int(y1) - 2, int(x0) + 3 : int(x1) - 2].min() > 200
    assert level.mean() / 255 == pytest.approx((x1 - x0) * (y1 - y0) / level[..., 0].size, rel=0.1)


def test_words_of_one_line_belong_together():
    line = quad_of((100, 100, 200, 130))
    assert are_on_one_line(line, quad_of((230, 104, 300, 128)))
    assert not are_on_one_line(line, quad_of((230, 140, 300, 165)))  # the next line
    assert not are_on_one_line(line, quad_of((400, 100, 500, 130)))  # too far
    assert not are_on_one_line(line, quad_of((210, 60, 400, 190)))  # too large
