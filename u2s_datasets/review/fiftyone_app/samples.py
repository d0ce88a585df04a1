"""Bridge rows as samples of a grouped dataset: every row has the slice `original`, and `anonymized` if it has
an image to publish. Every column is a field of both slices, so that a filter works on either; the review's boxes are
drawn on the originals.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import fiftyone as fo
from fiftyone import ViewField as F

from u2s_datasets import columns as c
from u2s_datasets.parts.metrics.definitions import SPECS
from u2s_datasets.review.fiftyone_app import fields as f
from u2s_datasets.review.fiftyone_app.media import ANONYMIZED, ORIGINAL, Media, Stored
from u2s_datasets.review.fiftyone_app.rows import BridgeRow
from u2s_datasets.review.risk import residual_risk
from u2s_datasets.runs.decisions import UNRESOLVED

KEY = "u2s"
"""Where a dataset's `info` says what it shows."""


def prepare(dataset: fo.Dataset, features: Mapping[str, Any]) -> None:
    """Groups, typed fields, and which image the App shows."""
    dataset.add_group_field(f.GROUP, default=ORIGINAL)
    f.declare(dataset, features)
    dataset.app_config.media_fields = ["filepath", f.ORIGINAL_PATH, f.ANONYMIZED_PATH]
    dataset.app_config.sidebar_mode = "all"
    dataset.save()


def samples_of(row: BridgeRow, features: Mapping[str, Any], media: Media) -> list[fo.Sample]:
    """Write a row's images and make its one or two samples."""
    original = media.original(row.name, row.original)
    anonymized = None if row.anonymized is None else media.anonymized(row.name, row.anonymized)
    values = shared_fields(row, features, original, anonymized)
    group = fo.Group()
    samples = [_sample(group, ORIGINAL, original, values)]
    if c.PRIVACY_REVIEW in features:
        size = original.size or (anonymized.size if anonymized is not None else None)  # the two are of one size
        boxes, others = f.review_labels(row.values.get(c.PRIVACY_REVIEW), size)
        samples[0][c.PRIVACY_REVIEW], samples[0][f.UNPLACED] = boxes, others
    if anonymized is not None:
        samples.append(_sample(group, ANONYMIZED, anonymized, values))
    return samples


def shared_fields(
    row: BridgeRow, features: Mapping[str, Any], original: Stored, anonymized: Stored | None
) -> dict[str, Any]:
    """The fields that both slices of a row have."""
    return {
        **f.to_fields(row.values, features),
        c.ROW_ID: row.name,
        f.INDEX: row.index,
        f.RISK: residual_risk(row.values),
        f.ORIGINAL_PATH: original.path,
        f.VERBATIM_PATH: original.verbatim,
        f.ANONYMIZED_PATH: None if anonymized is None else anonymized.path,
    }


def _sample(group: fo.Group, slice_: str, stored: Stored, values: Mapping[str, Any]) -> fo.Sample:
    metadata = None if stored.size is None else fo.ImageMetadata(width=stored.size[0], height=stored.size[1])
    return fo.Sample(filepath=stored.path, group=group.element(slice_), metadata=metadata, **values)


def anonymized_sample(group_id: str, path: str, size: tuple[int, int], values: Mapping[str, Any]) -> fo.Sample:
    """A further sample for a group that had no publishable image so far."""
    return _sample(fo.Group(id=group_id), ANONYMIZED, Stored(path, size), values)


def save_views(dataset: fo.Dataset) -> None:
    """The views that a curator begins with: flagged, withheld, needs review, lowest scores."""
    schema = dataset.get_field_schema()
    views: dict[str, Any] = {}
    if c.PRIVACY_FLAG in schema:
        views["flagged"] = dataset.match(F(c.PRIVACY_FLAG) == True)  # noqa: E712  a field's own comparison
    if c.STATUS in schema:
        views["withheld"] = dataset.match(F(c.STATUS) == c.WITHHELD)
    if c.REVIEW_DECISION in schema:
        views["needs review"] = needs_review(dataset).sort_by(f.RISK, reverse=True)
    for number, (name, worst_first) in enumerate(_measured(dataset)):
        title = "lowest scores" if number == 0 else f"lowest scores: {name}"
        views[title] = dataset.exists(name).sort_by(name, reverse=worst_first)
    for name, view in views.items():
        dataset.save_view(name, view, overwrite=True)


def needs_review(collection: Any) -> Any:
    """Publishable samples whose review was asked for and not given."""
    return collection.match(F(c.REVIEW_DECISION).is_in(list(UNRESOLVED)) & (F(c.STATUS) != c.WITHHELD))


def _measured(dataset: fo.Dataset) -> list[tuple[str, bool]]:
    """The scores that some sample has, and whether a high value is the bad one; the residual risk comes first."""
    schema = dataset.get_field_schema()
    names = [(f.RISK, True), *((name, spec.better == "lower") for name, spec in SPECS.items())]
    there = [(name, high) for name, high in names if name in schema]
    counts = dataset.values([name for name, _ in there]) if there else []
    return [pair for pair, values in zip(there, counts, strict=True) if any(v is not None for v in values)]


def flat_samples(collection: Any, rows: Iterable[str] | None = None) -> Any:
    """All slices of a collection, or of these rows, as one flat view."""
    dataset = getattr(collection, "_root_dataset", collection)
    flat = dataset.select_group_slices() if dataset.media_type == fo.core.media.GROUP else dataset.view()
    return flat if rows is None else flat.match(F(c.ROW_ID).is_in(list(rows)))


def originals(collection: Any) -> Any:
    """One sample per row of a collection's whole dataset: that of the original."""
    dataset = getattr(collection, "_root_dataset", collection)
    return dataset.select_group_slices(ORIGINAL) if dataset.media_type == fo.core.media.GROUP else dataset.view()


def row_ids(collection: Any) -> list[str]:
    """The rows that a view shows, by any of their slices, in its order."""
    flat = collection.select_group_slices() if collection.media_type == fo.core.media.GROUP else collection
    return list(dict.fromkeys(flat.values(c.ROW_ID)))


def set_fields(view: Any, values: Mapping[str, Mapping[str, Any]]) -> None:
    """Write fields in bulk: row id -> field -> value, into every slice of the view."""
    if not values:
        return
    ids, rows = view.values(["id", c.ROW_ID])
    for field in next(iter(values.values())):
        view.set_values(
            field, {i: values[r][field] for i, r in zip(ids, rows, strict=True) if r in values}, key_field="id"
        )


def info_of(dataset: Any) -> dict[str, Any]:
    """What the bridge wrote down about a dataset; empty for one that it did not make."""
    return dict((getattr(dataset, "_root_dataset", dataset).info or {}).get(KEY) or {})


def batches(items: Iterable[Any], size: int) -> Iterable[Sequence[Any]]:
    """Lists of so many items."""
    part: list[Any] = []
    for item in items:
        part.append(item)
        if len(part) == size:
            yield part
            part = []
    if part:
        yield part
