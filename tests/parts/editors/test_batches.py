"""Geometry, batches and failures around every diffusion editor, with a model that is a function."""

import numpy as np
import pytest
from PIL import Image
from skimage import data

from u2s_datasets.errors import EditFailed, PartlyFailed, SetupError
from u2s_datasets.images.geometry import feather_mask
from u2s_datasets.parts import Edit
from u2s_datasets.parts.editors import batches
from u2s_datasets.parts.metrics.quality import ssim
from u2s_datasets.stages.base import each

torch = pytest.importorskip("torch", reason="torch is not installed: pip install 'u2s_datasets[models]'")


def photo(width: int, height: int, turned: int = 0) -> Image.Image:
    return Image.fromarray(data.astronaut()).resize((width, height)).rotate(turned, expand=True)


def same(batch) -> "torch.Tensor":
    """The model that changes nothing."""
    return torch.stack([torch.from_numpy(np.array(one.image)).permute(2, 0, 1) / 255 for one in batch])


def run(edits, work=same, batch_size=4, region="image", multiple=64, max_pixels=512 * 512):
    return batches.edit(edits, work, multiple, max_pixels, batch_size, region)


@pytest.mark.parametrize(
    "picture", [photo(640, 427), photo(333, 500), photo(300, 200, 90)], ids=lambda p: f"{p.width}x{p.height}"
)
def test_an_editor_that_changes_nothing_has_ssim_1(picture):
    (out,) = run([Edit(picture)], max_pixels=10**6)
    assert out.size == picture.size
    assert ssim(np.asarray(picture), np.asarray(out)) == 1.0


def test_a_larger_photo_is_edited_small_and_comes_back_at_its_size():
    seen = []

    def work(batch):
        seen.extend(one.image.size for one in batch)
        return same(batch)

    (out,) = run([Edit(photo(1500, 1000))], work, max_pixels=256 * 256)
    assert out.size == (1500, 1000)
    assert all(side % 64 == 0 for side in seen[0])
    assert seen[0][0] * seen[0][1] < 1.5 * 256 * 256


def test_sizes_are_mixed_and_order_is_kept():
    sizes = [(64, 64), (100, 40), (64, 64), (33, 90), (100, 40)]
    pictures = [photo(*size) for size in sizes]
    pictures = [Image.eval(picture, lambda v, i=i: (v + 20 * i) % 256) for i, picture in enumerate(pictures)]
    for out, picture in zip(run([Edit(p) for p in pictures], batch_size=2), pictures, strict=True):
        assert np.array_equal(np.asarray(out), np.asarray(picture))


def test_a_batch_that_does_not_fit_is_halved_and_the_call_goes_on():
    tried = []

    def work(batch):
        tried.append(len(batch))
        if len(batch) > 2:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate much.")
        return same(batch)

    pictures = [photo(64, 64) for _ in range(9)]
    assert len(run([Edit(p) for p in pictures], work, batch_size=8)) == 9
    assert tried == [8, 4, 2, 2, 2, 2, 1]


def test_an_image_that_fits_in_no_memory_fails_alone():
    def work(batch):
        if any(one.edit.seed == 1 for one in batch):
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return same(batch)

    with pytest.raises(PartlyFailed) as caught:
        run([Edit(photo(64, 64), seed=i) for i in range(4)], work)
    assert [isinstance(result, EditFailed) for result in caught.value.results] == [False, True, False, False]


@pytest.mark.parametrize(("bad", "words"), [(float("nan"), "not finite"), (float("inf"), "not finite"), (0.0, "black")])
def test_what_is_no_picture_fails_its_row_alone(bad, words):
    def work(batch):
        out = same(batch)
        for i, one in enumerate(batch):
            if one.edit.seed == 1:
                out[i] = bad
        return out

    with pytest.raises(PartlyFailed, match="1 of 3") as caught:
        run([Edit(photo(64, 64), seed=i) for i in range(3)], work)
    assert words in str(caught.value.results[1])
    with pytest.raises(EditFailed, match=words):
        run([Edit(photo(64, 64), seed=1)], work)


def test_rows_that_came_out_are_not_edited_again_because_a_neighbour_failed():
    class Row:
        error = None

        def fail(self, error):
            self.error = error

    calls, rows = [], [Row(), Row(), Row()]

    def work(batch):
        calls.append(len(batch))
        raise PartlyFailed(["a", EditFailed("black"), "c"])

    assert each(rows, work, "edit_failed") == ["a", None, "c"]
    assert calls == [3]
    assert [row.error is not None for row in rows] == [False, True, False]


def test_a_model_that_loses_a_picture_of_a_batch_gets_its_orders_one_by_one():
    pictures = [photo(64, 64), photo(64, 64, 180)]
    for out, picture in zip(run([Edit(p) for p in pictures], lambda batch: same(batch)[:1]), pictures, strict=True):
        assert np.array_equal(np.asarray(out), np.asarray(picture))
    with pytest.raises(PartlyFailed, match="2 of 2 rows failed"):
        run([Edit(p) for p in pictures], lambda batch: same(batch)[:0])


def test_an_order_at_which_the_model_breaks_fails_alone_and_quietly_and_no_other_is_edited_again():
    class Row:
        def __init__(self, width):
            self.order, self.error = Edit(photo(width, 64), seed=width), None

        def fail(self, error):
            self.error = error

    edited = []

    def work(batch):
        if any(one.edit.seed == 600 for one in batch):
            raise RuntimeError("no such shape for 'Alice at home'")
        edited.extend(one.edit.seed for one in batch)
        return same(batch)

    rows = [Row(width) for width in (64, 100, 600, 101, 64)]  # 600 and no other has its own size
    outputs = each(rows, lambda rows: run([row.order for row in rows], work), "edit_failed")
    assert [out is None for out in outputs] == [False, False, True, False, False]
    assert sorted(edited) == [64, 64, 100, 101]
    assert isinstance(rows[2].error, EditFailed) and "RuntimeError" in str(rows[2].error)
    assert "Alice" not in str(rows[2].error) and "Alice" in str(rows[2].error.__cause__)


def test_a_fault_of_the_setup_is_no_orders_own():
    def work(batch):
        raise SetupError("the model is not here")

    with pytest.raises(SetupError, match="not here"):
        run([Edit(photo(64, 64)), Edit(photo(100, 64))], work)


def test_the_halved_size_holds_for_the_pictures_of_other_sizes_too():
    tried = []

    def work(batch):
        tried.append(len(batch))
        if len(batch) > 2:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return same(batch)

    run([Edit(photo(64, 64))] * 4 + [Edit(photo(128, 64))] * 4, work)
    assert tried == [4, 2, 2, 2, 2]


def test_with_boxes_every_pixel_beyond_the_rim_stays():
    picture, boxes = photo(200, 150), ((50.0, 40.0, 90.5, 80.0),)
    (out,) = run([Edit(picture, boxes=boxes)], lambda batch: 1 - same(batch), region="boxes")
    before, after = np.asarray(picture), np.asarray(out)
    inside = np.asarray(Image.eval(picture, lambda v: 255 - v))
    share = feather_mask(picture.size, boxes)
    assert np.array_equal(after[share == 0], before[share == 0])
    assert np.abs(after[40:80, 50:91].astype(int) - inside[40:80, 50:91]).max() <= 1
    assert (share[40:80, 50:91] == 1).all()
    assert 0 < ((share > 0) & (share < 1)).sum() < 0.1 * share.size


@pytest.mark.parametrize("box", [(90, 80, 50, 40), (50, 40, 90, float("nan")), (50, 40, float("inf"), 80)], ids=str)
def test_a_box_in_the_wrong_order_or_without_end_is_changed_too(box):
    picture = photo(200, 150)
    (out,) = run([Edit(picture, boxes=(box,))], lambda batch: 1 - same(batch), region="boxes")
    inside = 255 - np.asarray(picture)[40:80, 50:90].astype(int)
    assert np.abs(np.asarray(out)[40:80, 50:90] - inside).max() <= 1


@pytest.mark.parametrize("box", [(500, 500, 600, 600), (-50, -50, -10, -10), (10, 10, 10, 10)], ids=str)
def test_a_box_that_shows_nothing_of_the_image_fails_its_order(box):
    with pytest.raises(PartlyFailed) as caught:
        boxes = ((0, 0, 20, 20), box)
        run([Edit(photo(64, 64), boxes=boxes), Edit(photo(64, 64))], lambda batch: 1 - same(batch), region="boxes")
    assert [isinstance(result, EditFailed) for result in caught.value.results] == [True, False]


def test_an_order_without_boxes_is_for_the_whole_image():
    picture = photo(100, 80)
    (out,) = run([Edit(picture)], lambda batch: 1 - same(batch), region="boxes")
    assert np.abs(np.asarray(out).astype(int) + np.asarray(picture) - 255).max() <= 1


def test_an_order_without_the_text_that_an_editor_needs_fails_alone():
    orders = [Edit(photo(64, 64), target_prompt="a lake"), Edit(photo(64, 64), target_prompt=" ")]
    with pytest.raises(PartlyFailed) as caught:
        batches.edit(orders, same, 8, 10**6, 4, "image", needs=("target_prompt",))
    first, second = caught.value.results
    assert np.array_equal(np.asarray(first), np.asarray(photo(64, 64)))
    assert isinstance(second, EditFailed) and "target_prompt" in str(second)
