"""Shared by all tests: photos and pictures, finished runs of them, and a Hub on loopback."""

from collections.abc import Iterator
from pathlib import Path

import huggingface_hub
import pytest
from huggingface_hub import constants

import u2s_datasets as u2s
from tests.helpers.fake_hub import TOKEN, Hub
from tests.helpers.fakes import picture
from tests.helpers.published_run import write_phone_photos
from u2s_datasets.cli.bench.sample_photos import write_samples


@pytest.fixture(scope="session")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of nine real photos in three class folders."""
    folder = tmp_path_factory.mktemp("photos")
    write_samples(folder)
    return folder


@pytest.fixture(scope="session")
def demo(tmp_path_factory: pytest.TempPathFactory, photos: Path) -> Path:
    """The default pipeline on the nine real photos, with the default workers."""
    out = tmp_path_factory.mktemp("demo") / "safe"
    u2s.run(photos, out, keep=["label"], shard_size=4)
    return out


@pytest.fixture(scope="session")
def red_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Forty small pictures in two class folders, every third with a red square."""
    folder = tmp_path_factory.mktemp("red")
    for i in range(40):
        path = folder / ("zoe" if i % 2 else "anna") / f"holiday_{i:02d}.png"
        path.parent.mkdir(exist_ok=True)
        picture(red=i % 3 == 0, seed=i).save(path)
    return folder


@pytest.fixture(scope="session")
def photos200(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """200 real photos as a phone makes them, and their run's folder."""
    folder = tmp_path_factory.mktemp("u2s")
    write_phone_photos(folder / "photos", 200)
    u2s.run(folder / "photos", folder / "safe", detectors=["faces"], keep=["label"], num_proc=1, shard_size=64)
    return folder


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Hub]:
    """A Hub on loopback for the client of this process. Xet, the default way to upload, needs its own servers."""
    with Hub() as server:
        monkeypatch.setattr(constants, "ENDPOINT", server.url)
        template = constants.HUGGINGFACE_CO_URL_TEMPLATE.replace("https://huggingface.co", server.url)
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
        monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
        monkeypatch.setenv("HF_TOKEN", TOKEN)
        huggingface_hub.utils.disable_progress_bars()
        yield server
