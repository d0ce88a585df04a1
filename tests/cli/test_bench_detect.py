"""`u2s bench detect`: the truth that it draws, and one small table."""

import json

import numpy as np
import pytest

from u2s_datasets.cli.bench import face_scenes
from u2s_datasets.cli.bench.code_scenes import KINDS, TURNS, is_code_read, paste_code
from u2s_datasets.cli.bench.text_scenes import SCRIPTS, Line, find_fonts, text_scenes, write_line
from u2s_datasets.cli.main import main
from u2s_datasets.errors import SetupError

GREY = np.full((500, 600, 3), 128, np.uint8)


@pytest.mark.parametrize("turn", TURNS)
def test_the_corners_are_those_of_the_code(turn):
    scene = paste_code(GREY, "DataMatrix", 3, turn, np.random.default_rng(0))  # black edges on two sides
    ys, xs = np.nonzero(scene.image[..., 0] < 64)
    low, high = scene.quad.min(axis=0), scene.quad.max(axis=0)
    assert low[0] - 2 <= xs.min() and xs.max() <= high[0] + 2 and low[1] - 2 <= ys.min() and ys.max() <= high[1] + 2
    assert min(abs(low[0] - xs.min()), abs(high[0] - xs.max())) <= 2


@pytest.mark.parametrize("kind", KINDS)
def test_a_stranger_reads_what_is_drawn_and_nothing_in_its_absence(kind):
    assert is_code_read(paste_code(GREY, kind, 3, 0, np.random.default_rng(0)).image) and not is_code_read(GREY)


@pytest.mark.parametrize("turn", [0, 45, 90, 180])
def test_the_corners_are_those_of_the_line(turn):
    line = Line("Hollis", any_font("Latin"), 40, turn)
    rng = np.random.default_rng(1)  # ink without paper
    scene = write_line(GREY, line, rng)
    ys, xs = np.nonzero((scene.image != 128).any(axis=2))
    low, high = scene.quad.min(axis=0), scene.quad.max(axis=0)
    assert low[0] - 2 <= xs.min() and xs.max() <= high[0] + 2 and low[1] - 2 <= ys.min() and ys.max() <= high[1] + 2
    assert turn % 90 or max(xs.min() - low[0], high[0] - xs.max(), ys.min() - low[1], high[1] - ys.max()) <= 3


def any_font(script):
    try:
        return find_fonts(script)[0]
    except SetupError as error:
        pytest.skip(str(error))


def test_a_script_without_a_font_and_a_pillow_that_cannot_shape_stop_the_bench(monkeypatch):
    monkeypatch.setitem(SCRIPTS, "Runes of nobody", SCRIPTS["Latin"]._replace(family="no such family"))
    any_font("Latin")  # skips where nothing can be asked
    with pytest.raises(SetupError, match=r"Runes of nobody.*apt-get"):
        list(text_scenes([GREY], 1))
    monkeypatch.setattr("u2s_datasets.cli.bench.text_scenes.features.check", lambda name: name != "raqm")
    with pytest.raises(SetupError, match="raqm"):
        find_fonts("Latin")


@pytest.mark.slow
def test_the_table_counts_every_picture(capsys):
    assert main(["bench", "detect", "--rows", "1"]) == 0
    facts = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert all(cell["pictures"] == 1 and cell["read after"] == 0 for cell in facts["cells"].values())


def test_the_truth_of_a_turned_face_lies_where_the_face_is():
    photo = np.full((200, 300, 3), 128, np.uint8)
    photo[40:100, 60:110] = 255
    for turn in face_scenes.TURNS:
        scene = face_scenes._whole(face_scenes._Face(photo, np.array([60.0, 40.0, 110.0, 100.0])), turn)
        ys, xs = np.nonzero(scene.image[..., 0] > 200)
        assert np.allclose(scene.quad.min(axis=0), [xs.min(), ys.min()], atol=2)
        assert np.allclose(scene.quad.max(axis=0), [xs.max() + 1, ys.max() + 1], atol=2)


def test_an_unknown_kind_is_one_line(capsys):
    assert main(["bench", "detect", "--kind", "ghosts"]) == 2
    assert "ghosts" in capsys.readouterr().err
