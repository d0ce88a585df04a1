"""Law 8, no code from strangers: none is run, and none of their files says what else is read."""

import io
import shutil
import zipfile

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from datasets import Dataset
from datasets import Image as ImageFeature
from PIL import Image, ImageFile

import u2s_datasets as u2s
from tests.helpers.fakes import picture
from tests.helpers.hostile_images import encoded, heic, jpeg_claiming, photo, png_bomb, refusal
from u2s_datasets.errors import SetupError
from u2s_datasets.images import decode
from u2s_datasets.parts.backends.vllm_backend import VLLMBackend
from u2s_datasets.sources.dataset import DatasetSource
from u2s_datasets.sources.open import open_source


def test_bombs_are_refused_from_the_header_whatever_pillow_is_set_to(monkeypatch: pytest.MonkeyPatch) -> None:
    bombs = [png_bomb(), jpeg_claiming(encoded(photo(), "JPEG"), 65_000, 65_000)]
    formats = ("PNG", "JPEG", "WEBP", "GIF", "TIFF", "BMP", "PPM", "TGA", "JPEG2000")
    small = [encoded(photo(size=(64, 48)), format) for format in formats] + [heic(photo(size=(64, 48)))]
    data = encoded(photo(), "PNG")
    monkeypatch.setattr(ImageFile.ImageFile, "load", lambda self: pytest.fail("decoded before it was judged"))
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", None)
    assert [refusal(bomb) for bomb in bombs] == ["too_large"] * 2
    rows = [{"bytes": file, "path": "a.tga"} for file in small]
    assert {refusal(row, max_pixels=64 * 48 - 1) for row in rows} == {"too_large"}
    monkeypatch.undo()
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10)
    assert decode(data, max_pixels=160 * 120).pixels.size == (160, 120)
    assert Image.MAX_IMAGE_PIXELS == 10


def test_a_bomb_inside_an_icon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", None)
    bomb = png_bomb()
    head = b"\0\0\1\0\1\0" + bytes([0, 0, 0, 0, 1, 0, 32, 0]) + len(bomb).to_bytes(4, "little") + b"\x16\0\0\0"
    assert refusal(head + bomb) == "too_large"


def test_a_lazy_eps_is_not_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("PIL.EpsImagePlugin.Ghostscript", lambda *_: pytest.fail("ghostscript was run"))
    assert refusal(Image.open(io.BytesIO(encoded(photo(), "EPS")))) == "unsupported"


@pytest.fixture
def strangers(tmp_path):
    """A folder of a stranger's data beside a private picture; one relative picture lies inside."""
    (tmp_path / "data/near").mkdir(parents=True)
    picture().save(tmp_path / "private.png")
    picture().save(tmp_path / "data/near/a.png")
    (tmp_path / "data/near/link.png").symlink_to(tmp_path / "private.png")
    return tmp_path


NAMED = (
    "{}/private.png",
    "../private.png",
    "near/link.png",
    "file://{}/private.png",
    "https://example.org/a.png",
    "\0",
)


@pytest.mark.parametrize("plain_strings", [False, True])
def test_parquet_names_no_file_but_those_beside_it(strangers, plain_strings):
    paths = ["near/a.png", *(name.format(strangers) for name in NAMED), f"{strangers}/data/near/a.png"]
    values = paths if plain_strings else [{"bytes": None, "path": p} for p in paths]
    pq.write_table(pa.table({"image": values}), strangers / "data/a.parquet")
    source = open_source(str(strangers / "data/a.parquet"))
    found = [item.image for item in source.read(0, 99)]
    assert found[0] == {"bytes": None, "path": str(strangers / "data/near/a.png")}
    assert found[1:] == [{"bytes": None, "path": None}] * (len(paths) - 1)
    facts = u2s.run(source.location, strangers / "out", detectors=["tests.helpers.fakes:RedSquares"], num_proc=1)
    assert (facts["safe"], facts["reasons"]) == (1, {"missing": len(paths) - 1})


def test_datasets_name_no_file_but_those_in_their_folders(strangers):
    own = strangers / "data"
    with zipfile.ZipFile(own / "a.zip", "w") as archive:
        archive.write(own / "near/a.png", "a.png")
    shutil.copy(own / "a.zip", strangers / "b.zip")
    good = ["near/a.png", f"{own}/near/a.png", f"zip://a.png::{own}/a.zip"]
    bad = [*(name.format(strangers) for name in NAMED), f"zip://a.png::{strangers}/b.zip", f"zip://a::file://{own}/a"]
    data = Dataset.from_dict({"image": [{"bytes": None, "path": p} for p in good + bad]})
    source = DatasetSource(data.cast_column("image", ImageFeature(decode=False)), "x", folders=[own])
    found = [item.image["path"] for item in source.read(0, 99)]
    assert found == [f"{own}/near/a.png"] * 2 + good[2:] + [None] * len(bad)


def test_code_that_comes_with_weights_is_off():
    for backend in (u2s.TransformersBackend, VLLMBackend):
        assert backend("org/name").trust_remote_code is False


def test_code_from_the_hub_is_pinned():
    with pytest.raises(SetupError, match="revision"):
        VLLMBackend("some/model", trust_remote_code=True).check()
