"""Whether a column can hold images at all: one that cannot is a fault of the call, and not of each of its rows.

A single value that is no image among others that are is a row's own fault, and withholds that row.
"""

import os
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from PIL import Image

from u2s_datasets.errors import SetupError
from u2s_datasets.images import IMAGE_SUFFIXES

_UNFORMATTED = "call .with_format(None) before .map(step, batched=True)"
_ANOTHER = "name the column of images with image_column='...' in the step"
_FLAT = "make one row of each image first"


def check_image_type(column: str, kind: pa.DataType) -> None:
    """Raise `SetupError` if a column of an Arrow table cannot hold images.

    Args:
        column: its name.
        kind: its type.
    """
    if not (pa.types.is_null(kind) or isinstance(kind, pa.BaseExtensionType) or _is_image_type(kind)):
        of_images = hasattr(kind, "value_type") and _is_image_type(kind.value_type)
        raise _refusal(column, " ".join(str(kind).split())[:80], _FLAT if of_images else _ANOTHER)


def _is_image_type(kind: pa.DataType) -> bool:
    """Whether values are bytes, {bytes, path}, or texts, which may be paths."""
    if pa.types.is_dictionary(kind):
        return _is_image_type(kind.value_type)
    if pa.types.is_struct(kind):
        return bool({field.name for field in kind} & {"bytes", "path"})
    return any(word in str(kind) for word in ("binary", "string")) and kind.num_fields == 0


def check_image_values(column: str, values: Any) -> None:
    """Raise `SetupError` if no value of a batch can be an image by its type, as where all are tensors or lists.

    Texts that look like no path count only where there are several: a single one may be a row's own fault. None and
    "" never count, being rows without an image.

    Args:
        column: its name.
        values: its values in a batch.
    """
    if not isinstance(values, (list, tuple, np.ndarray)):
        if hasattr(values, "dtype"):
            raise _refusal(column, _array(values), _UNFORMATTED)
        raise SetupError("a step works on batches; call .map(step, batched=True)")
    if isinstance(values, np.ndarray) and values.ndim == 3 and values.shape[-1] in (3, 4):
        raise SetupError(f"column {column!r} is one image {values.shape}; call .map(step, batched=True)")
    present = [value for value in values if value is not None and not (isinstance(value, str) and not value)]
    if not present or any(_may_be_image(value) for value in present):
        return
    first = present[0]
    if all(isinstance(value, str) for value in present):
        if len(present) > 1:
            raise _refusal(column, "texts that name no image file", _ANOTHER)
    elif hasattr(first, "dtype"):
        raise _refusal(column, _array(first), _UNFORMATTED)
    else:
        of_images = isinstance(first, (list, tuple)) and any(map(_may_be_image, first))
        raise _refusal(column, type(first).__name__, _FLAT if of_images else _ANOTHER)


def _array(value: Any) -> str:
    return f"{type(value).__name__} of {value.dtype} {tuple(getattr(value, 'shape', ()))}"


def _may_be_image(value: Any) -> bool:
    if isinstance(value, Mapping):
        return bool({"bytes", "path"} & set(value))
    if isinstance(value, np.ndarray):
        return value.dtype == np.uint8 and value.ndim in (2, 3)
    if isinstance(value, str):
        return "://" in value or Path(value).suffix.lower() in IMAGE_SUFFIXES or _is_file(value)
    return isinstance(value, (bytes, bytearray, memoryview, os.PathLike, Image.Image))


def _is_file(path: str) -> bool:
    with suppress(OSError, ValueError):  # a name that no file can have
        return Path(path).is_file()
    return False


def _refusal(column: str, what: str, remedy: str) -> SetupError:
    return SetupError(
        f"column {column!r} holds {what}, not images; expected encoded bytes, {{bytes, path}}, paths, PIL images or "
        f"uint8 arrays (H, W, 3); {remedy}"
    )


def check_batch(batch: Any) -> None:
    """Raise `SetupError` for what is no batch of columns: one column, or a table of another library."""
    if not isinstance(batch, Mapping):
        raise SetupError(
            f"a step takes a batch of columns, not {type(batch).__name__}; {_UNFORMATTED}, without input_columns="
        )
