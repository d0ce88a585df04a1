"""Law 6, pixels stay in place: upright once, padding undone, the same size, nothing touched outside the boxes."""

import io

import numpy as np
import pytest
from datasets import Dataset, Features, List, Value
from datasets import Image as ImageFeature
from PIL import Image

import u2s_datasets as u2s
from tests.helpers.fakes import picture
from tests.helpers.hostile_images import camera_jpeg, encoded, exif_block, heic, photo, stored_turned
from tests.helpers.run_files import QUICK, public_rows
from tests.helpers.steps import RED, pixels
from u2s_datasets import columns as c
from u2s_datasets import images
from u2s_datasets.images import decode
from u2s_datasets.parts.editors.redact import METHODS


def array(image: Image.Image) -> np.ndarray:
    return np.asarray(image).astype(int)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientation_is_applied_exactly_once(orientation: int) -> None:
    stored = encoded(stored_turned(photo(), orientation), "PNG", exif=exif_block(orientation))
    assert decode(stored).pixels.tobytes() == photo().tobytes()
    # An image that datasets decoded without turning it, and one that it did turn.
    with Image.open(io.BytesIO(stored)) as opened:
        assert decode(opened).pixels.tobytes() == photo().tobytes()
    with Image.open(io.BytesIO(stored)) as opened:
        from PIL import ImageOps

        assert decode(ImageOps.exif_transpose(opened)).pixels.tobytes() == photo().tobytes()
    near = array(decode(camera_jpeg(photo(), orientation)).pixels) - array(photo())
    assert np.abs(near).mean() < 3


def test_avif_heic_and_tiff_orientation_too() -> None:
    turned = stored_turned(photo(), 6)
    files = [encoded(turned, "TIFF", tiffinfo={0x0112: 6}), heic(turned, exif=exif_block(6).tobytes())]
    if "AVIF" in Image.registered_extensions().values():
        files.append(encoded(turned, "AVIF", exif=exif_block(6), quality=95))
    for data in files:
        near = array(decode(data).pixels) - array(photo())
        assert np.abs(near).mean() < 6


@pytest.mark.parametrize("size", [(1, 1), (15, 17), (16, 32), (160, 121)])
@pytest.mark.parametrize("multiple", [1, 8, 16, 64])
def test_padding_repeats_the_edge_and_is_undone_exactly(size: tuple[int, int], multiple: int) -> None:
    image = photo(size=size)
    padded, kept = images.pad(image, multiple)
    assert kept == size
    assert padded.width % multiple == padded.height % multiple == 0
    assert 0 <= padded.width - size[0] < multiple and 0 <= padded.height - size[1] < multiple
    pixels = np.asarray(padded)
    assert (pixels[:, size[0] :] == pixels[:, size[0] - 1 : size[0]]).all()
    assert (pixels[size[1] :] == pixels[size[1] - 1 : size[1]]).all()
    assert images.unpad(padded, kept).tobytes() == image.tobytes()


@pytest.mark.parametrize("method", METHODS)
def test_a_photo_that_was_stored_turned_changes_around_the_box_alone(method: str) -> None:
    upright = picture(red=True)
    stored = encoded(stored_turned(upright, 6), "PNG", exif=exif_block(6))
    step = u2s.Anonymize(inspect=RED, editor=u2s.Redact(method=method), format="png")
    answer = step({"image": [{"bytes": stored, "path": None}]})
    assert answer[c.PRIVACY_REVIEW][0][0]["box"] == [30.0, 20.0, 60.0, 40.0]  # of the upright picture
    changed = (pixels(answer, 0) != np.asarray(upright)).any(axis=2)
    assert changed[20:40, 30:60].all()
    changed[2:54, 10:80] = False  # as far as a box of a face may grow
    assert not changed.any()


def test_sizes_and_boxes_of_the_source_hold_for_what_is_published(tmp_path) -> None:
    boxes = [[1.5, 2.0, 30.0, 40.0], [10.0, 20.0, 30.0, 40.0], [0.0, 0.0, 60.0, 90.0]]
    upright = [picture(red=True), picture(), photo(size=(61, 97))]
    stored = [encoded(stored_turned(p, o), "PNG", exif=exif_block(o)) for p, o in zip(upright, (1, 6, 8), strict=True)]
    rows = {"image": [{"bytes": data, "path": None} for data in stored], "bbox": boxes}
    types = Features({"image": ImageFeature(), "bbox": List(Value("float32"), length=4)})
    Dataset.from_dict(rows, features=types).to_parquet(tmp_path / "rows.parquet")
    u2s.run(tmp_path / "rows.parquet", tmp_path / "out", keep=["bbox"], **QUICK)
    found = {tuple(row["bbox"]): decode(row[c.ANONYMIZED_IMAGE]).pixels.size for row in public_rows(tmp_path / "out")}
    assert found == {tuple(box): p.size for box, p in zip(boxes, upright, strict=True)}
