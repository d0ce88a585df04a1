"""Bringing a FiftyOne dataset up to date with the output that it shows, in bulk."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import fiftyone as fo
from fiftyone import ViewField as F

from u2s_datasets import columns as c
from u2s_datasets.errors import SetupError
from u2s_datasets.review.fiftyone_app import fields as f
from u2s_datasets.review.fiftyone_app import samples as s
from u2s_datasets.review.fiftyone_app.media import ANONYMIZED, Media, Stored, file_stem
from u2s_datasets.review.fiftyone_app.rows import RunRows, features_from

_DECIDED = (c.STATUS, c.REASON, *c.REVIEW)


def run_folder(dataset: Any) -> Path | None:
    """The folder of the run that a dataset shows; None if it shows something else."""
    folder = s.info_of(dataset).get("folder")
    return None if folder is None else Path(folder)


def mirror_decisions(dataset: Any, rows: Mapping[str, Mapping[str, Any]]) -> None:
    """Show decisions: row id -> entry of `read_decisions`. A rejected row is shown as withheld, an image that is
    approved or asked for again gets its status back from the output."""
    shown: dict[str, dict[str, Any]] = {}
    folder = run_folder(dataset)
    assert folder is not None, "only a run has decisions in a folder"
    for row in RunRows(folder).some(set(rows), originals=False):
        shown[row.name] = {name: row.values[name] for name in _DECIDED}
    s.set_fields(s.flat_samples(dataset, shown), shown)
    live = F(c.STATUS).is_in([c.SAFE, c.ANONYMIZED]) & (F(f.ANONYMIZED_PATH) == None)  # noqa: E711  a field's own
    if taken_back := carriers(dataset, shown).match(live).values(c.ROW_ID):
        mirror_rows(dataset, taken_back)


def mirror_rows(dataset: Any, rows: Sequence[str]) -> None:
    """Show these rows of a run as they are now, images included."""
    folder = run_folder(dataset)
    if folder is None:
        raise SetupError(f"{dataset.name!r} shows no run; import one with to_fiftyone")
    info = s.info_of(dataset)
    features, media = features_from(info["features"]), Media(info["media"])
    new = {row.name: row for row in RunRows(folder).some(set(rows), originals=False)}
    images = {name: row.anonymized for name, row in new.items()}
    values = {
        name: f.to_fields(row.values, features) | {f.RISK: s.residual_risk(row.values)} for name, row in new.items()
    }
    s.set_fields(s.flat_samples(dataset, new), values)
    mirror_reviews(dataset, {name: row.values.get(c.PRIVACY_REVIEW) for name, row in new.items()})
    mirror_images(dataset, images, media)


def mirror_changes(dataset: Any) -> int:
    """Show what changed in the run's folder since it was shown, and return how many rows that were."""
    folder = run_folder(dataset)
    assert folder is not None, "only a run can change"
    names = [c.ROW_ID, *_DECIDED, f.ANONYMIZED_PATH]
    shown = {row: values for row, *values in zip(*s.originals(dataset).values(names), strict=True)}
    changed = []
    for row in RunRows(folder).some(None, originals=False):
        *decided, path = shown[row.name]
        name = None if row.anonymized is None else file_stem(row.name, row.anonymized)
        if decided != [row.values[n] for n in _DECIDED] or name != (path and Path(path).stem):
            changed.append(row.name)
    if changed:
        mirror_rows(dataset, changed)
    return len(changed)


def mirror_reviews(dataset: Any, reviews: Mapping[str, Any]) -> None:
    """Show reviews as labels on the samples that carry them: row id -> the column's value."""
    view = carriers(dataset, reviews)
    ids, rows, widths, heights = view.values(["id", c.ROW_ID, "metadata.width", "metadata.height"])
    labels = {}
    for i, row, width, height in zip(ids, rows, widths, heights, strict=True):
        labels[i] = f.review_labels(reviews[row], None if width is None else (width, height))
    for number, field in enumerate((c.PRIVACY_REVIEW, f.UNPLACED)):
        view.set_values(field, {i: pair[number] for i, pair in labels.items()}, key_field="id")


def carriers(dataset: Any, rows: Any) -> Any:
    """One sample per row: that of the original."""
    return s.originals(dataset).match(F(c.ROW_ID).is_in(list(rows)))


def mirror_images(dataset: Any, images: Mapping[str, bytes | None], media: Media) -> None:
    """Show publishable images: row id -> encoded bytes, or None if there is nothing to show any more."""
    stored = {name: None if data is None else media.anonymized(name, data) for name, data in images.items()}
    flat = s.flat_samples(dataset, stored)
    old = dict(zip(*flat.values([c.ROW_ID, f.ANONYMIZED_PATH]), strict=True))
    s.set_fields(flat, {name: {f.ANONYMIZED_PATH: None if st is None else st.path} for name, st in stored.items()})
    if f.GROUP in dataset.get_field_schema():
        _mirror_slices(dataset, stored)
    kept = {st.path for st in stored.values() if st is not None}
    for path in {p for p in old.values() if p} - kept:
        if Path(path).is_relative_to(media.root):
            Path(path).unlink(missing_ok=True)


def _mirror_slices(dataset: Any, stored: Mapping[str, Stored | None]) -> None:
    flat = s.flat_samples(dataset, stored)
    edited = flat.match(F(f"{f.GROUP}.name") == ANONYMIZED)
    there = dict(zip(*edited.values([c.ROW_ID, "id"]), strict=True))
    dataset.delete_samples([there[name] for name, st in stored.items() if st is None and name in there])
    live = {there[name]: st for name, st in stored.items() if st is not None and name in there}
    if live:
        edited.set_values("filepath", {i: st.path for i, st in live.items()}, key_field="id")
        sizes = {i: fo.ImageMetadata(width=st.size[0], height=st.size[1]) for i, st in live.items() if st.size}
        edited.set_values("metadata", sizes, key_field="id")
    _add_slices(dataset, {name: st for name, st in stored.items() if st is not None and name not in there})


def _add_slices(dataset: Any, stored: Mapping[str, Stored]) -> None:
    """Samples for groups that had no publishable image so far, with the fields of the original's."""
    if not stored:
        return
    view = carriers(dataset, stored)
    schema = view.get_field_schema()
    skipped = {"id", "filepath", "metadata", "tags", "created_at", "last_modified_at", f.GROUP, c.PRIVACY_REVIEW}
    names = [n for n in schema if n not in skipped and not isinstance(schema[n], fo.EmbeddedDocumentField)]
    rows, groups, *values = view.values([c.ROW_ID, f"{f.GROUP}.id", *names])
    new = []
    for i, (row, group) in enumerate(zip(rows, groups, strict=True)):
        own = {name: column[i] for name, column in zip(names, values, strict=True)}
        size = stored[row].size
        assert size is not None, "a publishable image can be shown"
        new.append(s.anonymized_sample(group, stored[row].path, size, own))
    dataset.add_samples(new, dynamic=False, progress=False)
