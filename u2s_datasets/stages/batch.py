"""Rows on their way through the steps, and batches of `datasets` turned into rows and back.

A `Dataset` batch arrives as an Arrow table. It is read raw, so that the source column keeps its bytes, and leaves as a
table with typed columns, so that a batch of nulls cannot fix a wrong type. A plain dict, as `IterableDataset` and Ray
pass it, leaves as a dict.
"""

import inspect
import logging
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from typing import Any

import numpy as np
import pyarrow as pa
from PIL import Image

from u2s_datasets import columns, images
from u2s_datasets.errors import RowError, SetupError, UnreadableImage
from u2s_datasets.images.stored import fetch_remote
from u2s_datasets.parts import Detection
from u2s_datasets.stages.image_column import check_batch, check_image_type, check_image_values

log = logging.getLogger(__name__)

_REVIEW_FIELDS = ("category", "item", "reason", "box", "score")


class Row:
    """One row of a batch.

    Attributes:
        image: the source image: a path, bytes, {bytes, path} or a PIL image.
        fields: the row's columns, given and written.
        failure: the first error that withheld it; None for a row that is fine.
        found: what `inspect` found in these very pixels; None if it has not looked at them.
        edited: the publishable pixels before encoding; None until there are any.
        remaining_detections: what detectors still find in `edited`, all of it residue: set for a row that was left as
            it is and after redaction, else None.
        surviving_original: what is left of the original in `edited`: set after a rewriting editor, else None.
        embeddings: encoder -> (of the original, of the edited image), each (N, D), for metrics of the whole set.
        unmeasured: score column -> the reason code why it could not be measured.
    """

    def __init__(self, image: Any, fields: dict[str, Any]) -> None:
        self.image = image
        self.fields = {
            name: value if name == columns.ANONYMIZED_IMAGE else _plain_value(value) for name, value in fields.items()
        }
        flag = self.fields.get(columns.PRIVACY_FLAG)
        if flag is not None:  # False for False and 0; anything else is doubt, which is True
            self.fields[columns.PRIVACY_FLAG] = not (isinstance(flag, (int, float)) and flag == 0)
        if columns.PRIVACY_REVIEW in fields:
            self.fields[columns.PRIVACY_REVIEW] = _read_review(self.fields[columns.PRIVACY_REVIEW])
        self.failure: RowError | None = None
        self.found: list[Detection] | None = None
        self.edited: Image.Image | None = None
        self.remaining_detections: list[Detection] | None = None
        self.surviving_original: list[Detection] | None = None
        self.embeddings: dict[str, tuple[np.ndarray, np.ndarray]] = {}
        self.unmeasured: dict[str, str] = {}

    @cached_property
    def _decoded(self) -> images.Decoded | UnreadableImage:
        try:
            return images.decode(fetch_remote(self.image))
        except UnreadableImage as error:
            return error

    @property
    def decoded(self) -> images.Decoded:
        """The upright image, decoded once. Raises `UnreadableImage`, every time."""
        if isinstance(self._decoded, UnreadableImage):
            raise self._decoded
        return self._decoded

    @cached_property
    def array(self) -> np.ndarray:
        """The upright pixels, (H, W, 3) uint8 RGB."""
        return np.asarray(self.decoded.pixels)

    @cached_property
    def shown(self) -> np.ndarray:
        """What detectors are given: `array`, with its levels stretched if it spans few of them."""
        return images.stretched(self.array)

    @property
    def is_flagged(self) -> bool:
        """Whether the row is treated as private: whatever its flag says but False."""
        return self.fields.get(columns.PRIVACY_FLAG) is not False

    @property
    def review(self) -> list[dict[str, Any]]:
        """The items of its `privacy_review`; [] without one."""
        return self.fields.get(columns.PRIVACY_REVIEW) or []

    def class_name(self, column: str | None) -> str:
        """The name of this row's class in plain words, from a column of names; "" if it has none.

        Raises:
            SetupError: the column does not hold names.
        """
        value = self.fields.get(column) if column else None
        if value is not None and not isinstance(value, str):
            raise SetupError(
                f"label_column={column!r} holds {type(value).__name__}, not names; "
                "give a column of names, or of ClassLabel in a Dataset"
            )
        return " ".join((value or "").replace("_", " ").split())

    def fail(self, error: RowError) -> None:
        """Withhold this row for this reason, unless an earlier reason stands. Messages go to the debug log only.

        Reason codes are public, so one that is not ours joins the message, which is private.
        """
        if self.failure is None:
            if str(error.code) not in columns.REASON_CODES:
                error = RowError(f"{error.code}: {error}", "error").with_traceback(error.__traceback__)
            self.failure = error
            log.debug("row withheld (%s): %s", error.code, error, exc_info=error)


def _plain_value(value: Any) -> Any:
    """Lists and numbers in place of arrays (numpy's, torch's), also inside lists and mappings."""
    if hasattr(value, "dtype") and hasattr(value, "tolist"):
        value = value.tolist()
    if isinstance(value, (list, tuple)):
        return [_plain_value(v) for v in value]
    return {k: _plain_value(v) for k, v in value.items()} if isinstance(value, Mapping) else value


def _read_review(value: Any) -> list[dict[str, Any]] | None:
    """A given `privacy_review`; in place of one that cannot be read an error item, which withholds its row."""
    if value is None or (isinstance(value, list) and all(map(_is_review_item, value))):
        return value
    message = f"privacy_review {value!r:.200} cannot be read; give a list of {{{', '.join(_REVIEW_FIELDS)}}}"
    return [columns.review_item(columns.ERROR, "error", message, None, 1.0)]


def _is_review_item(item: Any) -> bool:
    if not (isinstance(item, dict) and set(_REVIEW_FIELDS) <= set(item) and isinstance(item["category"], str)):
        return False
    box = [] if item["box"] is None else item["box"]
    return (
        isinstance(box, list)
        and all(isinstance(v, (int, float)) for v in box)
        and isinstance(item["score"], (int, float, type(None)))
        and all(isinstance(item[name], (str, type(None))) for name in ("item", "reason"))
    )


def read_rows(
    batch: Mapping[str, Any], image_column: str, others: Iterable[str] = (), required: Iterable[str] = ()
) -> list[Row]:
    """The rows of a batch, with all of the `required` columns and those of the `others` that the batch has.

    Numbers of a `ClassLabel` among the required columns become their names.

    Raises:
        SetupError: the image column or a required one is missing, it cannot hold images, or this is not a batch.
    """
    check_batch(batch)
    names = list(batch)
    if image_column not in names:
        raise SetupError(f"no column {image_column!r}; the columns are {names}; say image_column='...' in the step")
    for name in required:
        if name not in names:
            raise SetupError(f"no column {name!r}, which this step was told to read; the columns are {names}")
    table = getattr(batch, "pa_table", None)
    if type(batch).__name__ == "LazyRow":
        raise SetupError("a step works on batches; call .map(step, batched=True)")
    wanted = [image_column, *(n for n in dict.fromkeys((*others, *required)) if n in names and n != image_column)]
    if table is None:
        check_image_values(image_column, batch[image_column])
        values = {name: list(batch[name]) for name in wanted}
    else:
        check_image_type(image_column, table.schema.field(image_column).type)
        values = {name: table[name].to_pylist() for name in wanted}
        check_image_values(image_column, values[image_column])
    if table is not None and required:
        from datasets import Features

        features = Features.from_arrow_schema(table.schema)
        values |= {n: class_names(features[n], values[n]) for n in required}
    return [Row(image, dict(zip(wanted[1:], rest, strict=True))) for image, *rest in zip(*values.values(), strict=True)]


def class_names(feature: Any, values: Sequence[Any]) -> list[Any]:
    """The names of a `ClassLabel`'s numbers, None for a number without a name; other values as they are."""
    names = getattr(feature, "names", None)
    if names is None:
        return list(values)
    return [names[v] if v is not None and 0 <= v < len(names) else None for v in values]


def with_columns(batch: Mapping[str, Any], rows: Sequence[Row], names: Sequence[str]) -> Any:
    """The batch's result: these columns of the rows, and for a table all its others (see the module's docstring)."""
    values = {name: [row.fields.get(name) for row in rows] for name in names}
    table = getattr(batch, "pa_table", None)
    if table is None:
        return {
            n: [v and EncodedImage(v["bytes"]) for v in vs] if n == columns.ANONYMIZED_IMAGE else vs
            for n, vs in values.items()
        }
    from datasets import Features
    from datasets.features.features import get_nested_type

    features, given = columns.features(names), Features.from_arrow_schema(table.schema)
    removed = _columns_to_remove()
    kept = {n: given[n] for n in table.column_names if n not in values and n not in removed}
    arrays = [table[n] for n in kept] + [pa.array(values[n], type=get_nested_type(features[n])) for n in names]
    return pa.Table.from_arrays(arrays, schema=Features({**kept, **features}).arrow_schema)


def _columns_to_remove() -> set[str]:
    """`remove_columns` of the `Dataset.map` that is calling.

    `map` applies `remove_columns` to results that are dicts and not to tables, so without this an original that the
    user asked to drop would stay. Only the frame of `map` knows the argument.
    """
    frame = inspect.currentframe()
    while frame is not None:
        if frame.f_code.co_name == "_map_single" and "remove_columns" in frame.f_locals:
            return set(frame.f_locals["remove_columns"] or ())
        frame = frame.f_back
    raise SetupError("a batch of an Arrow dataset did not come from Dataset.map; give a dict of lists instead")


class EncodedImage(Image.Image):
    """A decoded image that is stored as the very bytes it came from, until something is painted on it.

    `datasets` would encode a plain PIL image again, at its own quality, and store the path of one with a `filename`.
    """

    filename = ""

    def __init__(self, data: bytes) -> None:
        super().__init__()
        decoded = images.decode(data)
        self.im, self._size, self._mode = decoded.pixels.im, decoded.pixels.size, decoded.pixels.mode
        self.format = decoded.format
        self.readonly = 1  # Pillow then calls _copy before it paints
        self._data: bytes | None = data

    def _copy(self) -> None:
        self._data = None
        super()._copy()

    def save(self, fp: Any, format: str | None = None, **params: Any) -> None:
        """Save as `PIL.Image.Image.save` does, but write the bytes unchanged for its own format without parameters."""
        if self._data is not None and format == self.format and not params and hasattr(fp, "write"):
            fp.write(self._data)
        else:
            super().save(fp, format, **params)
