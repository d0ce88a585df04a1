"""Redaction on real photos: nothing of the inside is left, nothing outside is touched."""

import dataclasses
import pickle

import numpy as np
import pytest
import skimage.data
from PIL import Image
from scipy import ndimage

from u2s_datasets.errors import EditFailed, SetupError
from u2s_datasets.images import cover_head, cover_line, grow_evenly, grow_head, grow_line, head_outline
from u2s_datasets.images.shapes import bounds, pixels_of
from u2s_datasets.parts import Detection, Edit, Region
from u2s_datasets.parts.editors.redact import METHODS, Redact, hidden_regions, regions

FACE = (175.0, 65.0, 280.0, 190.0)
"""The astronaut's face."""
HEAD = head_outline(FACE)
LEANING = ((300.0, 300.0), (400.0, 370.0), (390.0, 385.0), (290.0, 315.0))
"""The corners of a line of text that leans by 35 degrees."""
CONTENT_FREE = ("inpaint", "solid")


def astronaut() -> Image.Image:
    return Image.fromarray(skimage.data.astronaut())


def page() -> Image.Image:
    return Image.fromarray(skimage.data.page()).convert("RGB")


def redact(image: Image.Image, *boxes, seed: int = 1, strength: int = 0, **options) -> np.ndarray:
    (out,) = Redact(**options).edit([Edit(image, boxes=boxes, seed=seed, strength=strength)])
    assert (out.size, out.mode) == (image.size, image.mode)
    return np.asarray(out)


def inside(image: Image.Image, *boxes) -> np.ndarray:
    mask = np.zeros(image.size[::-1], bool)
    for x0, y0, x1, y1 in boxes:
        mask[int(y0) : int(np.ceil(y1)), int(x0) : int(np.ceil(x1))] = True
    return mask


def scrambled(image: Image.Image, *boxes) -> Image.Image:
    """The same picture with other pixels, and another brightness, in the boxes."""
    pixels, mask = np.array(image), inside(image, *boxes)
    pixels[mask] = np.random.default_rng(0).integers(0, 60, (mask.sum(), 3))
    return Image.fromarray(pixels)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(
    ("image", "boxes"),
    [
        (astronaut(), [FACE]),
        (astronaut(), [(170.4, 60.5, 240.2, 130.7), (200, 100, 300, 220), (0, 0, 9, 512)]),
        (Image.fromarray(skimage.data.coffee()), [(500, 300, 600, 400), (0, 0, 40, 40)]),
        (page(), [(8, 10, 380, 32), (8, 60, 120, 61)]),
    ],
)
def test_pixels_outside_the_boxes_are_bit_identical(method, image, boxes):
    out, mask = redact(image, *boxes, method=method), inside(image, *boxes)
    assert (out[~mask] == np.asarray(image)[~mask]).all()
    assert (out[mask] != np.asarray(image)[mask]).any(-1).mean() > 0.9


@pytest.mark.parametrize("method", CONTENT_FREE)
@pytest.mark.parametrize("strength", [0, 1, 2])
@pytest.mark.parametrize("boxes", [[FACE], [FACE, (260, 150, 340, 260)], [(0, 0, 512, 300), (20, 280, 90, 330)]])
def test_nothing_from_inside_leaks_into_a_content_free_fill(method, strength, boxes):
    other = scrambled(astronaut(), *boxes)
    settings = {"method": method, "strength": strength}
    assert (redact(astronaut(), *boxes, **settings) == redact(other, *boxes, **settings)).all()


@pytest.mark.parametrize("mask", ["shape", "box"])
def test_nothing_of_the_core_of_a_shape_enters_its_fill_its_soft_edge_or_its_neighbour_s(mask):
    regions_ = (Region((HEAD, LEANING)), Region((head_outline((280.0, 150.0, 360.0, 240.0)),)))
    core = np.zeros((512, 512), bool)
    for region in regions_:
        (x0, y0, x1, y1), touched = pixels_of(region.outlines, (512, 512), 1)
        core[y0:y1, x0:x1] |= ndimage.binary_erosion(touched, iterations=10)
    pixels = np.array(astronaut())
    pixels[core] = np.random.default_rng(0).integers(0, 256, (core.sum(), 3))
    outs = [
        Redact(mask=mask).edit([Edit(i, seed=3, regions=regions_)])[0] for i in (astronaut(), Image.fromarray(pixels))
    ]
    assert core.sum() > 10_000 and (np.asarray(outs[0]) == np.asarray(outs[1])).all()


def test_the_first_fill_has_no_pattern_and_that_of_what_was_found_again_has():
    """A wall: the fill is the wall again, and in a further attempt it is far from it."""
    wall = np.random.default_rng(0).normal((120, 110, 100), 3, (200, 200, 3)).clip(0, 255).astype(np.uint8)
    head = head_outline((70.0, 70.0, 130.0, 140.0))
    for strength, low, high in ((0, 1, 8), (1, 18, 30)):
        edit = Edit(Image.fromarray(wall), seed=1, regions=(Region((head,), strength),))
        out = np.asarray(Redact().edit([edit])[0]).astype(float)
        assert low < (out[90:120, 90:120] - (120, 110, 100)).std() < high


def test_the_default_is_content_free():
    assert Redact().method in CONTENT_FREE


@pytest.mark.parametrize("method", METHODS)
def test_from_the_second_further_attempt_every_method_is_content_free(method):
    out = redact(astronaut(), FACE, method=method, strength=2)
    assert (out == redact(scrambled(astronaut(), FACE), FACE, method=method, strength=2)).all()


@pytest.mark.parametrize("method", METHODS)
def test_a_word_is_gone(method):
    """The gradients that make letters: none of theirs is left, whatever else was painted."""
    box = (8, 10, 380, 32)
    mask = inside(page(), box)
    before, after = (np.asarray(x)[mask].mean(-1).reshape(22, -1) for x in (page(), redact(page(), box, method=method)))
    letters, left = (np.diff(x, axis=1).ravel() for x in (before, after))
    assert left.std() == 0 or abs(np.corrcoef(letters, left)[0, 1]) < 0.1


def test_pixelation_keeps_few_quantised_colours():
    x0, y0, x1, y1 = map(int, FACE)
    cells = redact(astronaut(), FACE, method="pixelate")[y0:y1, x0:x1].reshape(-1, 3)
    assert len(np.unique(cells, axis=0)) <= 4 * 4
    assert set(np.unique(cells)) <= {0, 32, 64, 96, 128, 160, 192, 224, 255}


def test_pixelation_gives_a_line_of_text_one_row():
    line = redact(page(), (8, 10, 380, 32), method="pixelate")[10:32, 8:380]
    assert (line == line[:1]).all()


def test_pixelation_noise_moves_whole_cells():
    """Pixel noise would average out over a cell, and candidates could be compared with its mean."""
    draws = [redact(astronaut(), FACE, method="pixelate", seed=s)[70, 180].astype(int) for s in range(20)]
    assert np.std(draws, axis=0).mean() > 12


@pytest.mark.parametrize("method", METHODS)
def test_noise_comes_from_the_seed_alone(method):
    photos = [(astronaut(), FACE, 1), (Image.fromarray(skimage.data.coffee()), (50, 50, 120, 90), 2)]
    edits = [Edit(image, boxes=[box], seed=seed) for image, box, seed in photos]
    editor = Redact(method, noise=20.0)
    batch = [np.asarray(x) for x in editor.edit(edits)]
    backwards = [np.asarray(x) for x in editor.edit(edits[::-1])][::-1]
    alone = [np.asarray(editor.edit([e])[0]) for e in edits]
    assert all((a == b).all() and (a == c).all() for a, b, c in zip(batch, backwards, alone, strict=True))
    assert (redact(astronaut(), FACE, method=method, noise=20.0, seed=5) != batch[0]).any()


@pytest.mark.parametrize("method", ["pixelate", "blur"])
def test_a_later_box_does_not_restore_what_an_earlier_one_hid(method):
    whole, part = (150.0, 40.0, 300.0, 220.0), (200.0, 100.0, 230.0, 130.0)
    x0, y0, x1, y1 = map(int, part)
    shown = np.asarray(astronaut())[y0:y1, x0:x1].astype(float)
    both = redact(astronaut(), whole, part, method=method, noise=0)[y0:y1, x0:x1]
    first = redact(astronaut(), whole, method=method, noise=0)[y0:y1, x0:x1]
    assert abs(both - shown).mean() >= 0.9 * abs(first - shown).mean()


def test_a_box_is_not_painted_with_its_neighbours_inside():
    """Two boxes side by side, one white: the other must stay dark."""
    pixels = np.zeros((100, 200, 3), np.uint8)
    pixels[20:80, 100:160] = 255
    out = redact(Image.fromarray(pixels), (40, 20, 100, 80), (100, 20, 160, 80))
    assert out.max() <= 10  # the least grain


def test_a_ramp_is_continued_across_the_box():
    """A fill from the border meets it: on a smooth picture the seam is small."""
    ramp = np.repeat(np.repeat(np.linspace(0, 255, 256).astype(np.uint8)[None, :, None], 256, 0), 3, -1)
    out = redact(Image.fromarray(ramp), (64, 64, 192, 192))
    assert abs(out.astype(int) - ramp)[64:192, 64:192].mean() < 16


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("strength", [0, 1, 2])
@pytest.mark.parametrize(
    ("size", "box"),
    [
        ((1, 1), (0, 0, 1, 1)),
        ((1, 1), (-5, -5, 9, 9)),
        ((64, 48), (-100, -100, 900, 900)),  # larger than the image
        ((64, 48), (60, 40, 80, 60)),  # over the corner
        ((64, 48), (0, 20, 64, 21)),  # one row
        ((64, 48), (20.3, 0, 20.4, 48)),  # thinner than a pixel
        ((2, 300), (0, 1, 2, 299)),
    ],
)
def test_odd_boxes(method, strength, size, box):
    image = astronaut().resize(size)
    out = redact(image, box, method=method, strength=strength)
    if size != (1, 1):
        assert (out != np.asarray(image)).any()


def test_a_box_with_no_pixel_is_ignored_beside_one_with_pixels():
    assert (redact(astronaut(), FACE, (600, 600, 700, 700), (9, 9, 9, 40)) == redact(astronaut(), FACE)).all()


@pytest.mark.parametrize("method", METHODS)
def test_a_large_box_is_done(method):
    image = astronaut().resize((2200, 2200))
    assert (redact(image, (100, 100, 2100, 2100), method=method)[:100] == np.asarray(image)[:100]).all()


@pytest.mark.parametrize("boxes", [[], [(600, 600, 700, 700)], [(9, 9, 9, 40)]])
def test_nothing_to_redact_is_a_failure_not_a_copy(boxes):
    with pytest.raises(EditFailed, match="nothing to redact"):
        redact(astronaut(), *boxes)


@pytest.mark.parametrize("box", [(float("nan"), 0, 9, 9), (0, 0, float("inf"), 9), (50, 50, 20, 60)])
def test_a_malformed_box_is_a_failure(box):
    with pytest.raises(EditFailed, match=r"\(x0, y0, x1, y1\)"):
        redact(astronaut(), FACE, box)
    with pytest.raises(EditFailed, match=r"\(x0, y0, x1, y1\)"):
        regions([Detection("face", box, 1.0)], (512, 512), {})


def test_a_box_that_came_out_as_it_went_in_is_a_failure():
    """Every cell is a pixel, its colour already on the grid, and there is no noise: a pixelation of nothing."""
    pixels = np.indices((8, 8)).sum(0).astype(np.uint8)[..., None].repeat(3, -1) % 8 * 32
    with pytest.raises(EditFailed, match="as it went in"):
        redact(Image.fromarray(pixels), (0, 0, 8, 8), method="pixelate", cells=8, noise=0)


def test_paint_that_is_not_finite_is_a_failure(monkeypatch):
    monkeypatch.setattr("u2s_datasets.parts.editors.redact.natural", lambda *_: np.full((125, 105, 3), np.nan))
    with pytest.raises(EditFailed, match="not finite"):
        redact(astronaut(), FACE)


def test_only_rgb_is_taken():
    with pytest.raises(EditFailed, match="RGBA"):
        redact(astronaut().convert("RGBA"), FACE)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"method": "swirl"}, "'swirl'.*inpaint, solid, pixelate, blur"),
        ({"cells": 0}, "cells=0.*1 to 64"),
        ({"noise": -1.0}, "noise=-1.0.*0 to 128"),
        ({"noise": float("nan")}, "noise=nan"),
        ({"margin": 2.0}, "margin=2.0.*0 to 1"),
        ({"mask": "oval"}, "'oval'.*shape, box"),
    ],
)
def test_setup_errors_name_the_value_and_the_remedy(options, message):
    with pytest.raises(SetupError, match=message):
        Redact(**options)


def test_metadata_does_not_survive():
    image = astronaut()
    image.info["comment"] = b"who it is"
    assert not Redact().edit([Edit(image, boxes=[FACE])])[0].info


def test_a_further_attempt_hides_more():
    changed = [(redact(astronaut(), FACE, strength=s) != np.asarray(astronaut())).any(-1).sum() for s in (0, 1, 2)]
    assert changed[0] < changed[1] < changed[2]


def test_a_face_grows_to_the_hair_and_text_by_its_height():
    assert grow_head((100, 100, 200, 200)) == pytest.approx((60, 50, 240, 230))
    assert grow_line((100, 100, 300, 120)) == (95, 95, 305, 125)
    assert grow_evenly((100, 100, 200, 200)) == pytest.approx((90, 90, 210, 210))


def test_regions_are_clipped_merged_and_in_one_order():
    found = [
        Detection("face", (0, 0, 100, 100), 0.9),
        Detection("face", (5, 5, 100, 105), 0.4),  # the same face again
        Detection("text", (300, 300, 400, 320), 0.9),
        Detection("text", (900, 900, 950, 950), 0.9),  # outside
    ]
    growth = {"face": grow_head, "text": grow_line}
    boxes = regions(found, (500, 400), growth)
    assert boxes == regions(found[::-1], (500, 400), growth)
    assert boxes == [(0, 0, 140, pytest.approx(135)), (295, 295, 405, 325)]
    assert regions([], (500, 400), growth) == []


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("mask", ["shape", "box"])
def test_a_region_is_hidden_by_its_shape_or_by_the_boxes_around_it(method, mask):
    edit = Edit(astronaut(), boxes=[(0, 0, 9, 9)], seed=1, regions=(Region((HEAD,)), Region((LEANING,))))
    out = np.asarray(Redact(method, mask=mask).edit([edit])[0])
    changed = (out != np.asarray(astronaut())).any(-1)
    boxes = [bounds(HEAD), bounds(LEANING)]
    assert not changed[~inside(astronaut(), *boxes)].any()
    corner = tuple(int(v) + 2 for v in boxes[1][:2][::-1])
    assert changed[127, 227] and changed[342, 345] and changed[corner] == (mask == "box")


def test_only_what_was_found_again_is_hidden_harder():
    gentle, harder = (Region((HEAD,)), Region((LEANING,))), (Region((HEAD,)), Region((LEANING,), strength=1))
    first, second = (Redact().edit([Edit(astronaut(), seed=1, regions=given)])[0] for given in (gentle, harder))
    change = (np.asarray(first) != np.asarray(second)).any(-1)
    assert change[300:400, 280:410].any() and not change[:280].any()


def test_regions_that_mostly_overlap_are_one_and_those_found_again_are_marked():
    shapes = {"face": cover_head, "text": cover_line}
    found = [
        Detection("face", FACE, 0.9),
        Detection("face", (180, 70, 285, 195), 0.4),
        Detection("text", (9, 300, 99, 320), 1),
    ]
    face, text = sorted(hidden_regions(found, (512, 512), shapes, found[2:]), key=lambda region: region.strength)
    assert hidden_regions(found[::-1], (512, 512), shapes, found[2:]) == sorted([face, text], key=lambda r: r.outlines)
    assert (len(face.outlines), face.strength, len(text.outlines), text.strength) == (2, 0, 1, 1)
    assert hidden_regions([Detection("text", (900, 900, 950, 950), 0.9)], (512, 512), shapes) == []


def test_a_part_is_a_frozen_dataclass_and_survives_pickling():
    editor = Redact("pixelate", cells=2)
    assert editor.redacts and pickle.loads(pickle.dumps(editor)) == editor
    settings = {"method": "pixelate", "cells": 2, "noise": None, "margin": 0.15, "mask": "shape"}
    assert editor.config() == {"part": "Redact"} | settings
    with pytest.raises(dataclasses.FrozenInstanceError):
        editor.cells = 8  # type: ignore[misc]
