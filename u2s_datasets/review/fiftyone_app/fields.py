"""Columns of `datasets` and fields of FiftyOne: which becomes which, and values there and back without loss."""

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import fiftyone as fo

from u2s_datasets import columns as c
from u2s_datasets.errors import SetupError

RISK = "residual_risk"
GROUP = "group"
ORIGINAL_PATH, ANONYMIZED_PATH, VERBATIM_PATH = "original_path", "anonymized_path", "stored_path"
UNPLACED = "privacy_review_unplaced"
"""Review items without a box, as classifications."""
INDEX = "row_index"

OWN = {RISK: fo.FloatField, ORIGINAL_PATH: fo.StringField, ANONYMIZED_PATH: fo.StringField}
OWN |= {VERBATIM_PATH: fo.StringField, INDEX: fo.IntField, c.ROW_ID: fo.StringField}
"""Fields that the bridge adds; only `row_id` may be a column as well."""

_TAKEN = {"id", "filepath", "tags", "metadata", "created_at", "last_modified_at", "_id", GROUP, UNPLACED, *OWN} - {
    c.ROW_ID
}


def field_name(column: str) -> str:
    """The field of a column; names that FiftyOne or the bridge uses get another one."""
    plain = column if column.isidentifier() and not column.startswith("_") else f"column_{column.encode().hex()}"
    return f"column_{plain}" if plain in _TAKEN else plain


def kind_of(column: str, feature: Any) -> str:
    """How a column is kept: "image", "review", "class", "bool", "int", "float", "str" or "json"."""
    from datasets import ClassLabel, Image, Value

    if column == c.PRIVACY_REVIEW:
        return "review"
    if isinstance(feature, Image):
        return "image"
    if isinstance(feature, ClassLabel):
        return "class"
    dtype = feature.dtype if isinstance(feature, Value) else ""
    kinds = {"bool": "bool", "string": "str", "large_string": "str", "float32": "float", "float64": "float"}
    if dtype in kinds:
        return kinds[dtype]
    return "int" if dtype in ("int8", "int16", "int32", "int64", "uint8", "uint16", "uint32") else "json"


_FIELDS = {"bool": fo.BooleanField, "int": fo.IntField, "float": fo.FloatField}


def declare(dataset: fo.Dataset, features: Mapping[str, Any], own: Iterable[str] = OWN) -> None:
    """Add the fields of these columns and these of the bridge's own to a dataset, typed, so that adding samples looks
    at no value."""
    schema = dataset.get_field_schema()
    wanted = {field_name(n): _FIELDS.get(kind_of(n, f), fo.StringField) for n, f in features.items()}
    for column in (n for n, f in features.items() if kind_of(n, f) in ("image", "review")):
        wanted.pop(field_name(column))
    for name, field in (wanted | {name: OWN[name] for name in own}).items():
        if name not in schema:
            dataset.add_sample_field(name, field)
    if c.PRIVACY_REVIEW in features:
        for name, document in ((c.PRIVACY_REVIEW, fo.Detections), (UNPLACED, fo.Classifications)):
            if name not in schema:
                dataset.add_sample_field(name, fo.EmbeddedDocumentField, embedded_doc_type=document)


def to_fields(values: Mapping[str, Any], features: Mapping[str, Any]) -> dict[str, Any]:
    """Field values of one row, without its images and its review.

    Raises:
        SetupError: a column holds values that FiftyOne cannot keep.
    """
    fields = {}
    for column, feature in features.items():
        kind, value = kind_of(column, feature), values.get(column)
        if kind not in ("image", "review"):
            fields[field_name(column)] = None if value is None else _stored(column, kind, feature, value)
    return fields


def _stored(column: str, kind: str, feature: Any, value: Any) -> Any:
    if kind == "class":
        return feature.int2str(value) if 0 <= value < feature.num_classes else str(value)
    if kind != "json":
        return value
    try:
        return json.dumps(value, ensure_ascii=False)
    except TypeError as error:
        what = type(value).__name__
        raise SetupError(f"column {column!r} holds {what}, which FiftyOne cannot store; remove it first") from error


def from_field(column: str, feature: Any, value: Any) -> Any:
    """The column's value of a field's."""
    kind = kind_of(column, feature)
    if value is None or kind not in ("class", "json"):
        return value
    if kind == "json":
        return json.loads(value)
    return feature.str2int(value) if value in feature.names else int(value)


def review_labels(
    review: Sequence[Mapping[str, Any]] | None, size: tuple[int, int] | None
) -> tuple[fo.Detections | None, fo.Classifications | None]:
    """A privacy review as labels: items with a box, and those without.

    Args:
        review: the column's value.
        size: (width, height) of the image; None if unknown: no box can be drawn then.
    """
    if review is None:
        return None, None
    boxes, others = [], []
    for order, item in enumerate(review):
        facts = {"item": item["item"], "reason": item["reason"], "order": order, "confidence": item["score"]}
        if item["box"] is not None and size is not None:
            box = [float(v) for v in item["box"]]
            boxes.append(fo.Detection(label=item["category"], bounding_box=relative(box, size), box=box, **facts))
        else:
            others.append(fo.Classification(label=item["category"], box=item["box"], **facts))
    return fo.Detections(detections=boxes), fo.Classifications(classifications=others)


def review_of(boxes: Any, others: Any, size: tuple[int, int] | None) -> list[dict[str, Any]] | None:
    """The privacy review of labels; a box that a user moved or drew is taken from where it is now."""
    if boxes is None and others is None:
        return None
    items: list[tuple[float, dict[str, Any]]] = []
    for label in [*(boxes.detections if boxes else ()), *(others.classifications if others else ())]:
        placed = hasattr(label, "bounding_box")
        box = _get(label, "box") if not placed else _box(label, size)
        score = label.confidence if label.confidence is not None else 1.0
        item, reason = _get(label, "item") or "", _get(label, "reason") or ""
        order = _get(label, "order")
        items.append(
            (order if order is not None else len(items) + 1e6, c.review_item(label.label, item, reason, box, score))
        )
    return [item for _, item in sorted(items, key=lambda pair: pair[0])]


def _get(label: Any, name: str) -> Any:
    return label[name] if label.has_field(name) else None


def _box(label: Any, size: tuple[int, int] | None) -> list[float] | None:
    """The exact box of a label, as long as it was not moved."""
    exact = _get(label, "box")
    if size is None or (exact is not None and list(label.bounding_box) == relative(exact, size)):
        return exact
    return pixels(label.bounding_box, size)


def relative(box: Sequence[float], size: tuple[int, int]) -> list[float]:
    """FiftyOne's [left, top, width, height] in shares of the image, of (x0, y0, x1, y1) in pixels."""
    x0, y0, x1, y1 = box
    return [x0 / size[0], y0 / size[1], (x1 - x0) / size[0], (y1 - y0) / size[1]]


def pixels(box: Sequence[float], size: tuple[int, int]) -> list[float]:
    """(x0, y0, x1, y1) in pixels of FiftyOne's box."""
    left, top, width, height = box
    return [left * size[0], top * size[1], (left + width) * size[0], (top + height) * size[1]]
