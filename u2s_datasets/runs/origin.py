"""The source of a finished run, opened again as the run read it."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from u2s_datasets.errors import SetupError
from u2s_datasets.sources.base import Source
from u2s_datasets.sources.open import open_source


def open_origin(manifest: Mapping[str, Any], to_show: bool = False) -> Source:
    """The source of the run with this manifest.

    Only a dataset that came from the Hub is looked for there: the name of a folder is nobody else's business.

    Args:
        manifest: see `manifest.read_manifest`.
        to_show: the originals are only looked at: the source may have changed, and its kept columns are not read.

    Raises:
        SetupError: it is not in its place, cannot be opened, or was changed.
    """
    place = manifest["source"]
    names = [] if to_show else manifest["configuration"]["kept_columns"]
    if manifest["source_kind"] != "dataset" and not Path(place).exists():
        raise SetupError(f"the source {place!r} is not in its place; put it back to edit its rows again")
    source = open_source(place, image_column=manifest["image_column"], split=manifest["split"], keep=names, allow=names)
    same = source.kind == manifest["source_kind"] if to_show else source.fingerprint() == manifest["source_content"]
    if not same:
        raise SetupError(f"the source {place!r} was changed since the run; run `u2s anonymize` on it into a new folder")
    return source


def find_origin(manifest: Mapping[str, Any], to_show: bool = False) -> Source | None:
    """As `open_origin`; None if the source cannot be had."""
    try:
        return open_origin(manifest, to_show)
    except (SetupError, OSError):
        return None
