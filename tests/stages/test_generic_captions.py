"""Captions and instructions without a model: how many regions there are and where, and nothing that was read."""

import pytest
from PIL import Image

import u2s_datasets as u2s
from u2s_datasets import columns as c

LEFT, MIDDLE = (1, 30, 11, 34), (43, 27, 53, 37)
"""Boxes in a picture of (96, 64)."""


def review(*items: tuple) -> list[dict]:
    """A review with (category, box) or (category, box, what was read) of each item."""
    read = "Anna Schmidt, AB 12 CDE"
    return [c.review_item(category, *(text or [read]), "seen by Anna", box, 0.9) for category, box, *text in items]


def texts(items: list[dict], size: tuple[int, int] = (96, 64)) -> list[str]:
    """The public caption, the instruction and the caption after the edit that a flagged row gets."""
    batch = {"image": [Image.new("RGB", size)]}
    batch |= {c.PRIVACY_FLAG: [True], c.PRIVACY_SCORE: [1.0], c.PRIVACY_REVIEW: [items]}
    batch |= u2s.Caption()(batch)
    batch |= u2s.Instruct()(batch)
    return [batch[name][0] for name in (c.PUBLIC_CAPTION, c.EDIT_INSTRUCTION, c.EDIT_CAPTION)]


def caption(*items: tuple, size: tuple[int, int] = (96, 64)) -> str:
    return texts(review(*items), size)[0]


@pytest.mark.parametrize(
    ("box", "place"),
    [
        ((0, 0, 10, 10), "upper left"),
        ((43, 0, 53, 10), "upper centre"),
        ((86, 0, 96, 10), "upper right"),
        (LEFT, "middle left"),
        (MIDDLE, "centre"),
        ((86, 27, 96, 37), "middle right"),
        ((0, 54, 10, 64), "lower left"),
        ((43, 54, 53, 64), "lower centre"),
        ((86, 54, 96, 64), "lower right"),
        ((-40, -40, 4, 4), "upper left"),
        ((90, 60, 400, 400), "lower right"),
        ((0, 0, 96, 64), "centre"),
    ],
)
def test_a_box_is_told_by_its_ninth(box, place):
    assert caption(("face", box)) == f"A landscape photo with one face ({place})."


@pytest.mark.parametrize(
    ("number", "words"),
    [(1, "one face"), (2, "two faces"), (6, "six faces"), (7, "several faces"), (40, "several faces")],
)
def test_regions_are_counted(number, words):
    assert caption(*[("face", MIDDLE)] * number) == f"A landscape photo with {words} (centre)."


def test_categories_stand_in_one_order_with_at_most_four_places():
    corners = [(x, y, x + 9, y + 9) for x in (0, 43, 86) for y in (0, 54)]
    said = caption(*(("text", box) for box in corners), ("face", LEFT))
    assert said == (
        "A landscape photo with one face (middle left) and six pieces of text "
        "(upper left, lower left, upper centre, lower centre)."
    )
    assert caption(("face", LEFT), *(("text", box) for box in corners)) == said


@pytest.mark.parametrize(
    ("size", "shape"),
    [((96, 64), "landscape"), ((64, 96), "portrait"), ((64, 64), "square"), ((63, 60), "square"), ((64, 60), "landsc")],
)
def test_a_photo_has_a_shape(size, shape):
    assert caption(size=size).startswith(f"A {shape}")


def test_what_has_no_box_is_not_counted():
    assert caption(("face", None), (c.JUDGED, None), ("text", MIDDLE)) == (
        "A landscape photo with one piece of text (centre)."
    )


@pytest.mark.parametrize("category", ["face", "text", "Anna's divorce papers", "", "face of Anna", "TEXT", c.JUDGED])
def test_nothing_that_was_read_or_named_by_others_is_said(category):
    said = texts(review((category, MIDDLE), (category, None), ("text", LEFT, "Anna lives at Orchard Road 12")))
    for text in said:
        assert text
        assert not [word for word in ("anna", "schmidt", "cde", "12", "orchard", "divorce") if word in text.lower()]
    if category not in ("face", "text"):
        assert "one region (centre)" in said[0]


def test_categories_of_others_are_not_told_apart():
    said = caption(("tattoo of a swan", MIDDLE), ("Anna's papers", LEFT))
    assert said == "A landscape photo with two regions (centre, middle left)."
