"""Shared by all tests: real photos from the scikit-image wheel, and a cache of datasets that is thrown away."""

from pathlib import Path

import pytest

from u2s_datasets.cli.bench.sample_photos import write_samples


@pytest.fixture(scope="session")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of nine real photos in three class folders."""
    folder = tmp_path_factory.mktemp("photos")
    write_samples(folder)
    return folder
