"""What is hidden has the shape of a head or of a line, and a line's shape does not spell it."""

import math

import numpy as np
import pytest
from PIL import ImageFont

from u2s_datasets.images import cover_head, cover_line, head_outline
from u2s_datasets.images.shapes import bounds, corners, pixels_of

NAMES = """Anna Ek, Bo Lind, Carla Mendes, Dmitri Sokolov, Elisabeth Hartmann, Femi Ade, Greta Olsson, Hugo Paz,
Ines Carvalho, Jo Wu, Katarzyna Wójcik, Liam Byrne, Maximilian Vogel, Nora Dahl, Oluwaseun Adeyemi, Pia Roos,
Quentin Marchand, Rosa Vidal, Siddharth Iyer, Tom Fry""".replace("\n", " ").split(", ")


def line(x: float, y: float, length: float, height: float, degrees: float = 0.0) -> tuple[tuple[float, float], ...]:
    """The corners of a line of text that starts at (x, y)."""
    turn = math.radians(degrees)
    along, down = (math.cos(turn), math.sin(turn)), (-math.sin(turn), math.cos(turn))
    places = corners((0.0, 0.0, length, height))
    return tuple((x + u * along[0] + v * down[0], y + u * along[1] + v * down[1]) for u, v in places)


def touched(outline) -> np.ndarray:
    (x0, y0, x1, y1), inside = pixels_of([outline], (600, 600))
    pixels = np.zeros((600, 600), bool)
    pixels[y0:y1, x0:x1] = inside
    return pixels


@pytest.mark.parametrize("degrees", [0, 7, 30, 45, 90, 141, 180, 270])
@pytest.mark.parametrize("size", [(150, 20), (20, 20), (8, 20), (60, 9)])
def test_a_line_is_covered_at_any_turn_by_a_rectangle_along_it(degrees, size):
    quad = line(290, 290, *size, degrees)
    cover = touched(cover_line(bounds(quad), quad))
    assert cover[touched(quad)].all()
    longest = max(4 * size[1] + max(size) + 4 * size[1], 5 * size[1])
    assert cover.sum() <= longest * 2.2 * size[1]


def told(measures: list) -> float:
    """How often an attacker who measures this picks the right one of the candidates; chance is 0.05."""
    return sum(1 / measures.count(one) for one in measures) / len(measures)


@pytest.mark.parametrize("align", [0.0, 0.5, 1.0])
def test_what_is_painted_over_a_name_does_not_tell_it_among_twenty(align):
    """The attacker knows the font, its size, the place and the alignment, and covers each candidate as we do."""
    font = ImageFont.load_default(32)
    sizes, covers = [], []
    for name in NAMES:
        left, top, right, bottom = font.getbbox(name)
        x = 300.0 - align * (right - left)
        by = 0.35 * (bottom - top)  # by which our detector's outlines exceed the letters
        quad = corners((x - by, 100.0 + top - by, x + right - left + by, 100.0 + bottom + by))
        sizes.append((right - left, bottom - top))
        covers.append(bounds(cover_line(bounds(quad), quad)))
    lengths = [round(x1 - x0) for x0, _, x1, _ in covers]
    assert told(sizes) > 0.9
    assert told(lengths) <= 0.3
    assert told(covers) <= 0.5


def test_a_line_is_at_least_four_line_heights_long():
    """Our detector's outline is 1.3 times as high as the line."""
    for length in (16, 25, 60):
        x0, _, x1, _ = bounds(cover_line((50, 50, 50 + length, 76), None))
        assert (x1 - x0) >= 4 * 20


@pytest.mark.parametrize("degrees", [0, 30, -40, 90, 180])
def test_a_head_turns_with_its_eyes_and_covers_its_face(degrees):
    """A face of 80 x 100 pixels, whose eyes, nose and mouth are turned about its middle."""
    face = np.array([(-20, -20), (20, -20), (0, 5), (-15, 28), (15, 28)], float)
    turn = math.radians(degrees)
    matrix = np.array([[math.cos(turn), math.sin(turn)], [-math.sin(turn), math.cos(turn)]])
    landmarks = face @ matrix + 300
    oval = np.array([(40 * math.cos(t), 50 * math.sin(t)) for t in np.linspace(0, 2 * math.pi, 64)]) @ matrix + 300
    box = (*oval.min(0), *oval.max(0))
    head = head_outline(box, landmarks)
    cover, middle = touched(head), np.array([300, 300])
    assert cover[touched(tuple(map(tuple, oval)))].all() and head == cover_head(box, head)
    ear, crown = (middle + np.array(at) @ matrix for at in ((58, 0), (0, -68)))  # beside and above the face
    assert all(cover[int(y), int(x)] for x, y in (ear, crown))
    assert cover.sum() < 0.75 * (1.8 * 80 * 1.8 * 100 if degrees % 90 == 0 else 1.8 * 1.8 * 100 * 100)


def test_landmarks_that_are_none_of_a_face_turn_nothing():
    upside_down_mouth = np.array([(280, 280), (320, 280), (300, 270), (285, 240), (315, 240)], float)
    box = (260.0, 250.0, 340.0, 350.0)
    assert head_outline(box, upside_down_mouth) == head_outline(box)
