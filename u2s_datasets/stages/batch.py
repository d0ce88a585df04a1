"""Rows on their way through the arrows, and batches of `datasets` turned into rows and back.

A `Dataset` batch arrives as an Arrow table: it is read raw, so that the source column keeps its bytes, and
leaves as a table with typed columns, so that a batch of nulls cannot fix a wrong type. A plain dict, which is
what `IterableDataset` and Ray hand over, leaves as a dict.
"""

from __future__ import annotations

import inspect
import logging
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
from PIL import Image

from u2s_datasets import columns, images
from u2s_datasets.errors import RowError, SetupError, UnreadableImage
from u2s_datasets.images.stored import fetch_remote
from u2s_datasets.parts import Detection

log = logging.getLogger(__name__)


class Row:
    """One row of a batch.

    Attributes:
        fields: the row's columns, given and written.
        failure: the first error that withheld it, if any.
        found: what `inspect` found in these very pixels; none where it has not looked at them here.
        edited: the publishable pixels before encoding, once there are any.
        residue: what the last look at `edited` found; none where nobody looked.
        embeddings: encoder -> (of the original, of the edited image), each (N, D), for metrics of the whole set.
        unmeasured: score column -> the reason code why it could not be measured.
    """

    def __init__(self, image: Any, fields: dict[str, Any]) -> None:
        self.image = image
        self.fields = _given(fields)
        self.failure: RowError | None = None
        self.found: list[Detection] | None = None
        self.edited: Image.Image | None = None
        self.residue: list[Detection] | None = None
        self.embeddings: dict[str, tuple[np.ndarray, np.ndarray]] = {}
        self.unmeasured: dict[str, str] = {}
        self._decoded: images.Decoded | UnreadableImage | None = None
        self._array: np.ndarray | None = None

    @property
    def decoded(self) -> images.Decoded:
        """The upright image, decoded once. Raises `UnreadableImage`, every time."""
        if self._decoded is None:
            try:
                self._decoded = images.decode(fetch_remote(self.image))
            except UnreadableImage as error:
                self._decoded = error
        if isinstance(self._decoded, UnreadableImage):
            raise self._decoded
        return self._decoded

    @property
    def array(self) -> np.ndarray:
        """The upright pixels, (H, W, 3) uint8 RGB."""
        if self._array is None:
            self._array = np.asarray(self.decoded.pixels)
        return self._array

    def class_name(self, column: str | None) -> str:
        """The name of this row's class in words, from a column of names; "" where there is none.

        Raises:
            SetupError: the column holds something else than names.
        """
        value = self.fields.get(column) if column else None
        if value is not None and not isinstance(value, str):
            raise SetupError(
                f"label_column={column!r} holds {type(value).__name__} and no names; "
                "give a column of names, or of ClassLabel in a Dataset"
            )
        return " ".join((value or "").replace("_", " ").split())

    def fail(self, error: RowError) -> None:
        """Withhold this row for this reason, unless an earlier reason stands. Words go to the debug log only.

        Reason codes are public, so one that is not ours joins the words, which are private.
        """
        if self.failure is None:
            if str(error.code) not in columns.REASON_CODES:
                error = RowError(f"{error.code}: {error}", "error").with_traceback(error.__traceback__)
            self.failure = error
            log.debug("row withheld (%s): %s", error.code, error, exc_info=error)


def _given(fields: Mapping[str, Any]) -> dict[str, Any]:
    """The columns of a row as steps read them: plain values, a flag that is one, a review that can be read."""
    given = {name: value if name == columns.ANONYMIZED_IMAGE else _plain(value) for name, value in fields.items()}
    for name, read in ((columns.PRIVACY_FLAG, given_flag), (columns.PRIVACY_REVIEW, given_review)):
        if name in given:
            given[name] = read(given[name])
    return given


def _plain(value: Any) -> Any:
    """Lists and numbers in place of arrays (numpy's, torch's), also inside lists and mappings."""
    if hasattr(value, "dtype") and hasattr(value, "tolist"):
        value = value.tolist()
    if isinstance(value, (list, tuple)):
        return [_plain(v) for v in value]
    return {k: _plain(v) for k, v in value.items()} if isinstance(value, Mapping) else value


def given_flag(value: Any) -> bool | None:
    """A given `privacy_flag`: None where there is none, False for False and 0; whatever else it is, doubt is True."""
    value = _plain(value)
    if value is None:
        return None
    return not (isinstance(value, (bool, int, float)) and value == 0)


def given_review(value: Any) -> list[dict[str, Any]] | None:
    """A given `privacy_review`; where it cannot be read, one that says so, by which its row is withheld."""
    value = _plain(value)
    if value is None or (isinstance(value, list) and all(map(_is_review_item, value))):
        return value
    words = f"privacy_review {value!r:.200} cannot be read; give a list of {{{', '.join(_ITEM)}}}"
    return [columns.review_item(columns.ERROR, "error", words, None, 1.0)]


_ITEM = ("category", "item", "reason", "box", "score")


def _is_review_item(item: Any) -> bool:
    if not (isinstance(item, dict) and set(_ITEM) <= set(item) and isinstance(item["category"], str)):
        return False
    box = [] if item["box"] is None else item["box"]
    return (
        isinstance(box, list)
        and all(isinstance(v, (int, float)) for v in box)
        and isinstance(item["score"], (int, float, type(None)))
        and all(isinstance(item[name], (str, type(None))) for name in ("item", "reason"))
    )


def rows_of(
    batch: Mapping[str, Any], image_column: str, others: Iterable[str] = (), required: Iterable[str] = ()
) -> list[Row]:
    """The rows of a batch, with those of the `others` columns that it has and all of the `required` ones.

    Raises:
        SetupError: there is no such image or required column, or the batch is no batch.
    """
    if not isinstance(batch, Mapping):
        raise SetupError(f"a step takes a batch of columns, not {type(batch).__name__}; drop input_columns=")
    names = list(batch)
    if image_column not in names:
        raise SetupError(
            f"there is no column {image_column!r}; the columns are {names}; say image_column='...' in the step"
        )
    for name in required:
        if name not in names:
            raise SetupError(f"there is no column {name!r}, which this step was told to read; the columns are {names}")
    table = getattr(batch, "pa_table", None)
    values_of_one_row = (
        type(batch).__name__ == "LazyRow"
        if table is not None
        else not isinstance(batch[image_column], (list, tuple, np.ndarray))
    )
    if values_of_one_row:
        raise SetupError("a step works on batches; call .map(step, batched=True)")
    wanted = list(dict.fromkeys([image_column, *(n for n in (*others, *required) if n in names)]))
    values = {n: table[n].to_pylist() if table is not None else list(batch[n]) for n in wanted}
    if table is not None:
        values |= {n: _class_names(table.schema, n, values[n]) for n in required}
    present = wanted[1:]
    return [
        Row(image, dict(zip(present, rest, strict=True)))
        for image, *rest in zip(*(values[n] for n in wanted), strict=True)
    ]


def _class_names(schema: pa.Schema, column: str, values: list[Any]) -> list[Any]:
    """A `ClassLabel` column's names instead of its numbers, none for a number that has no name."""
    from datasets import Features

    feature = Features.from_arrow_schema(schema)[column]
    return named(feature, values)


def named(feature: Any, values: Sequence[Any]) -> list[Any]:
    """The names of a `ClassLabel`'s numbers, none for a number that has no name; other values as they are."""
    names = getattr(feature, "names", None)
    if names is None:
        return list(values)
    return [names[v] if v is not None and 0 <= v < len(names) else None for v in values]


def with_columns(batch: Mapping[str, Any], rows: Sequence[Row], names: Sequence[str]) -> Any:
    """The batch's answer: these columns of the rows, beside what `datasets` wants back (see the module's head)."""
    values = {name: [row.fields.get(name) for row in rows] for name in names}
    table = getattr(batch, "pa_table", None)
    if table is None:
        return {
            n: [v and EncodedImage(v["bytes"]) for v in vs] if n == columns.ANONYMIZED_IMAGE else vs
            for n, vs in values.items()
        }
    from datasets import Features

    features = columns.features(names)
    old = Features.from_arrow_schema(table.schema)
    removed = _columns_to_remove()
    kept = {n: old[n] for n in table.column_names if n not in values and n not in removed}
    arrays = [table[n] for n in kept] + [_typed(values[n], features[n]) for n in names]
    return pa.Table.from_arrays(arrays, schema=Features({**kept, **features}).arrow_schema)


def _typed(values: list[Any], feature: Any) -> pa.Array:
    from datasets.features.features import get_nested_type

    return pa.array(values, type=get_nested_type(feature))


def _columns_to_remove() -> set[str]:
    """`remove_columns` of the `Dataset.map` that is calling.

    `map` applies `remove_columns` to results that are dicts and not to tables, so without this an original
    that the user asked to drop would stay. Only its own frame knows the argument.
    """
    frame = inspect.currentframe()
    while frame is not None:
        if frame.f_code.co_name == "_map_single" and "remove_columns" in frame.f_locals:
            return set(frame.f_locals["remove_columns"] or ())
        frame = frame.f_back
    raise SetupError("a batch of an Arrow dataset came from elsewhere than Dataset.map; give a dict of lists instead")


class EncodedImage(Image.Image):
    """A decoded image that is stored as the very bytes it came from, as long as nobody paints on it.

    `datasets` would encode a plain PIL image anew, at its own quality, and store the path of one that has a
    `filename`.
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
        """As `PIL.Image.Image.save`; in its own format, without parameters, it writes the bytes as they are."""
        if self._data is not None and format == self.format and not params and hasattr(fp, "write"):
            fp.write(self._data)
        else:
            super().save(fp, format, **params)
