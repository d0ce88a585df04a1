"""The bridge between rows and samples, behind `convert`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import fiftyone as fo

from u2s_datasets import columns as c
from u2s_datasets.errors import SetupError
from u2s_datasets.review.fiftyone_app import fields as f
from u2s_datasets.review.fiftyone_app import samples as s
from u2s_datasets.review.fiftyone_app.media import Media, is_placeholder
from u2s_datasets.review.fiftyone_app.rows import DatasetRows, RunRows, features_from, features_json
from u2s_datasets.runs.shards import PUBLISHABLE

if TYPE_CHECKING:
    from datasets import Dataset

_BATCH = 256  # rows whose samples are added to the database at a time


def to_fiftyone(
    data: Any,
    name: str,
    media: str | Path,
    image_column: str,
    overwrite: bool,
    persistent: bool,
    progress: bool,
) -> fo.Dataset:
    """See `convert.to_fiftyone`."""
    from tqdm import tqdm

    rows: Any = RunRows(data) if isinstance(data, (str, Path)) else DatasetRows(data, image_column)
    folder = Media(media)
    dataset = _new(name, overwrite)
    s.prepare(dataset, rows.features)
    info = {**rows.info, "media": str(folder.root), "features": features_json(rows.features)}
    dataset.info[s.KEY] = {**info, "complete": False}
    dataset.save()
    with tqdm(total=len(rows), unit="img", disable=not progress) as bar:
        for batch in s.batches(rows, _BATCH):
            samples = [sample for row in batch for sample in s.samples_of(row, rows.features, folder)]
            dataset.add_samples(samples, dynamic=False, progress=False)
            bar.update(len(batch))
    for field in (c.ROW_ID, c.STATUS, c.REVIEW_DECISION):
        if field in dataset.get_field_schema():
            dataset.create_index(field)
    s.save_views(dataset)
    dataset.info[s.KEY] = {**info, "complete": True}
    dataset.persistent = persistent
    dataset.save()
    return dataset


def _new(name: str, overwrite: bool) -> fo.Dataset:
    if fo.dataset_exists(name):
        info = s.info_of(fo.load_dataset(name))
        if not info:
            raise SetupError(f"FiftyOne dataset {name!r} exists and was not made by to_fiftyone; use another name")
        if not overwrite and info["complete"]:
            raise SetupError(f"FiftyOne dataset {name!r} exists; pass overwrite=True, or use another name")
        fo.delete_dataset(name)
    return fo.Dataset(name)


def from_fiftyone(view: Any) -> Dataset:
    """See `convert.from_fiftyone`."""
    from datasets import Dataset, Features

    info = s.info_of(view)
    if not info:
        raise SetupError(f"FiftyOne dataset {view.name!r} was not made by to_fiftyone; load it with datasets")
    features = features_from(info["features"])
    schema = view.get_field_schema()
    later = (*c.INSPECT, *c.CAPTION, *c.INSTRUCT, *c.ANONYMIZE[1:], *c.SCORE, *c.REVIEW)
    features |= c.features([n for n in later if n in schema and n not in features])
    if c.STATUS in features and c.ANONYMIZED_IMAGE not in features:
        features |= c.features([c.ANONYMIZED_IMAGE])
    return Dataset.from_dict(_columns(view, features), features=Features(features))


def _columns(view: Any, features: dict[str, Any]) -> dict[str, list[Any]]:
    """Every column's values, in the order of the rows."""
    from datasets import Image

    stored = _stored(view)
    columns: dict[str, list[Any]] = {}
    for column, feature in features.items():
        if column == c.PRIVACY_REVIEW:
            pairs = zip(stored["metadata.width"], stored["metadata.height"], strict=True)
            sizes = [None if width is None else (width, height) for width, height in pairs]
            columns[column] = [f.review_of(*row) for row in zip(stored[column], stored[f.UNPLACED], sizes, strict=True)]
        elif column == c.ANONYMIZED_IMAGE:
            # A withheld row has no publishable image, whatever file may be left of it.
            statuses = stored.get(c.STATUS) or [c.SAFE] * len(stored[c.ROW_ID])
            pairs = zip(stored[f.ANONYMIZED_PATH], statuses, strict=True)
            columns[column] = [_image(path if status in PUBLISHABLE else None) for path, status in pairs]
        elif isinstance(feature, Image):
            paths = zip(stored[f.VERBATIM_PATH], stored[f.ORIGINAL_PATH], strict=True)
            columns[column] = [_image(verbatim or shown) for verbatim, shown in paths]
        else:
            columns[column] = [f.from_field(column, feature, value) for value in stored[f.field_name(column)]]
    return columns


def _stored(view: Any) -> dict[str, list[Any]]:
    """All fields of the rows that a view shows, read at once: field -> one value per row."""
    whole = view is getattr(view, "_root_dataset", view)
    rows = s.originals(view) if whole else s.originals(view).match(fo.ViewField(c.ROW_ID).is_in(s.row_ids(view)))
    names = [n for n in view.get_field_schema() if n not in ("metadata", f.GROUP)]
    names += ["metadata.width", "metadata.height"]
    return dict(zip(names, rows.sort_by(f.INDEX).values(names), strict=True))


def _image(path: str | None) -> dict[str, Any] | None:
    if path is None or is_placeholder(path):
        return None
    return {"bytes": Path(path).read_bytes(), "path": None}
