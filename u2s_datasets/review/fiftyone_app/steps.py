"""The library's steps on FiftyOne samples: any dataset of images, with or without a run behind it."""

import dataclasses
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import fiftyone as fo

from u2s_datasets import columns as c
from u2s_datasets.errors import SetupError
from u2s_datasets.review.fiftyone_app import fields as f
from u2s_datasets.review.fiftyone_app import mirror
from u2s_datasets.review.fiftyone_app import samples as s
from u2s_datasets.review.fiftyone_app.actions import boxes_of
from u2s_datasets.review.fiftyone_app.media import Media, is_placeholder
from u2s_datasets.stages.anonymize import Anonymize
from u2s_datasets.stages.base import Step
from u2s_datasets.stages.batch import Row

STEPS = ("inspect", "caption", "instruct", "anonymize", "score")
BATCH = 16
"""Rows per batch; each is in the database before the next begins, so that an interrupted call can be repeated."""

_BOXES = "fiftyone_boxes"


def run_step(
    samples: Any,
    step: Step,
    *,
    media: str | Path | None = None,
    boxes_field: str | None = None,
    only_missing: bool = False,
) -> Iterator[tuple[int, int]]:
    """Run a step on samples and write its columns as fields, in bulk.

    The columns of earlier steps are used if present. On a dataset that shows a run, what is written here stays in the
    database: the run's output changes by reviews and re-edits alone.

    Args:
        samples: a dataset or view of images.
        step: one of the five; its `image_column` does not matter.
        media: folder for anonymized images; None for that of the dataset.
        boxes_field: a field of `Detections` whose boxes `anonymize` hides as well.
        only_missing: leave samples alone that have this step's first column already.

    Gives:
        (rows done, rows in all) after each batch.

    Raises:
        SetupError: the step cannot work here, or no folder for images is known.
    """
    dataset = getattr(samples, "_root_dataset", samples)
    rows = _rows(samples, dataset)
    if boxes_field:
        if not isinstance(step, Anonymize):
            raise SetupError(f"{type(step).__name__} takes no boxes; leave out boxes_field={boxes_field!r}")
        step = dataclasses.replace(step, boxes_column=_BOXES)
    step.check()
    own = (f.RISK, f.ANONYMIZED_PATH) if isinstance(step, Anonymize) else ()
    f.declare(dataset, c.features(step.output_columns(set(_present(dataset)))), own)
    folder = None
    if isinstance(step, Anonymize):
        if not (given := media or s.info_of(dataset).get("media")):
            raise SetupError("no folder for the anonymized images; pass media='…' (the App shows it, keep it private)")
        folder = Media(given)
    if only_missing:
        written = step.writes[-1] if isinstance(step, Anonymize) else step.writes[0]
        view = mirror.carriers(dataset, rows)
        done = {row for row, value in zip(*view.values([c.ROW_ID, written]), strict=True) if value is not None}
        rows = [row for row in rows if row not in done]
    for start in range(0, len(rows), BATCH):
        part = rows[start : start + BATCH]
        _batch(dataset, step, part, boxes_of(dataset, part, boxes_field) if boxes_field else {}, folder)
        yield start + len(part), len(rows)


def _rows(samples: Any, dataset: Any) -> list[str]:
    """The rows to work on; samples of a dataset that the bridge did not make become rows of their own."""
    if samples.media_type not in ("image", "group"):
        raise SetupError(f"{dataset.name!r} holds media of type {samples.media_type!r}; expected images")
    if c.ROW_ID not in dataset.get_field_schema():
        dataset.add_sample_field(c.ROW_ID, fo.StringField)
    flat = s.flat_samples(dataset)
    ids, rows = flat.values(["id", c.ROW_ID])
    if any(row is None for row in rows):
        if dataset.media_type == "group":
            raise SetupError(f"{dataset.name!r} has groups that to_fiftyone did not make; pass one slice as a dataset")
        flat.set_values(c.ROW_ID, {i: i for i, row in zip(ids, rows, strict=True) if row is None}, key_field="id")
    return s.row_ids(samples)


def _present(dataset: Any) -> list[str]:
    schema = dataset.get_field_schema()
    return [name for name in (*c.INSPECT, *c.CAPTION, *c.INSTRUCT, *c.ANONYMIZE, *c.SCORE) if name in schema]


def _batch(dataset: Any, step: Step, rows: Sequence[str], boxes: dict[str, Any], media: Media | None) -> None:
    view = mirror.carriers(dataset, rows)
    work = _read(view, step)
    if getattr(step, "boxes_column", None):
        for name, row in work.items():
            row.fields[_BOXES] = [list(box) for box in boxes.get(name, ())]
    step.run(list(work.values()))
    answers = list(step.output_columns(set(_present(dataset))))
    if c.STATUS in answers:
        answers.append(c.REASON)
        f.declare(dataset, c.features([c.REASON]), ())
    plain = {n: t for n, t in c.features(answers).items() if n not in (c.PRIVACY_REVIEW, c.ANONYMIZED_IMAGE)}
    values = {name: f.to_fields(row.fields, plain) for name, row in work.items()}
    if c.STATUS in answers:
        for name, row in work.items():
            values[name][f.RISK] = s.residual_risk(row.fields)
    s.set_fields(s.flat_samples(dataset, work), values)
    if c.PRIVACY_REVIEW in answers:
        mirror.mirror_reviews(dataset, {name: row.fields.get(c.PRIVACY_REVIEW) for name, row in work.items()})
    if media is not None:
        images = {name: row.fields.get(c.ANONYMIZED_IMAGE) for name, row in work.items()}
        mirror.mirror_images(dataset, {n: None if v is None else v["bytes"] for n, v in images.items()}, media)
        shown = [*dataset.app_config.media_fields]
        if f.ANONYMIZED_PATH not in shown:
            dataset.app_config.media_fields = [*shown, f.ANONYMIZED_PATH]
            dataset.save()


def _read(view: Any, step: Step) -> dict[str, Row]:
    """The rows of a step by their ids: the original, and those columns that the step reads that have a value."""
    schema = view.get_field_schema()
    needed = [n for n in step.required() if n != _BOXES]
    if missing := [n for n in needed if n not in schema]:
        raise SetupError(f"missing field {missing[0]!r}, which this step was told to read; add it, or name another")
    labels = (c.PRIVACY_REVIEW, c.ANONYMIZED_IMAGE)
    wanted = [*needed, *(n for n in step.inputs() if n in schema and n not in (*labels, *needed))]
    originals = [f.VERBATIM_PATH, f.ORIGINAL_PATH] if s.info_of(view) else ["filepath", "filepath"]
    view.compute_metadata(skip_failures=True, progress=False)
    facts = [c.ROW_ID, *originals, "metadata.width", "metadata.height"]
    reviews = [c.PRIVACY_REVIEW, f.UNPLACED] if c.PRIVACY_REVIEW in schema else []
    edited = [f.ANONYMIZED_PATH] if f.ANONYMIZED_PATH in schema else []
    rows = {}
    for name, verbatim, shown, width, height, *values in zip(
        *view.values([*facts, *wanted, *reviews, *edited]), strict=True
    ):
        fields = {n: v for n, v in zip(wanted, values, strict=False) if v is not None or n not in c.INSPECT}
        if reviews and c.PRIVACY_REVIEW in step.inputs():
            boxes, others = values[len(wanted) : len(wanted) + 2]
            review = f.review_of(boxes, others, None if width is None else (width, height))
            fields |= {} if review is None else {c.PRIVACY_REVIEW: review}
        if edited and values[-1] and c.ANONYMIZED_IMAGE in step.inputs():
            fields[c.ANONYMIZED_IMAGE] = {"bytes": Path(values[-1]).read_bytes(), "path": None}
        rows[name] = Row(verbatim or (None if is_placeholder(shown) else shown), _whole(fields))
    return rows


def _whole(fields: dict[str, Any]) -> dict[str, Any]:
    """Drop an earlier step's columns if it has not worked on this row, so that it is run first."""
    for names in (c.CAPTION, c.INSTRUCT):
        if all(fields.get(name) is None for name in names):
            fields = {name: value for name, value in fields.items() if name not in names}
    return fields
