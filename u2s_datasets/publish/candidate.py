"""One row on its way out: what would leave, and beside it what must not be said."""

import json
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from datasets import ClassLabel
from PIL.Image import Image

from u2s_datasets import columns as c
from u2s_datasets import images
from u2s_datasets.errors import UnreadableImage
from u2s_datasets.images import Box
from u2s_datasets.images.stored import stored_bytes

ROW_ID = re.compile(r"[0-9a-f]{32}")
"""What a row is called in public."""


class StoredImage:
    """An encoded image, read and decoded at most once.

    Args:
        stored: bytes, a path or {bytes, path}.

    Attributes:
        data: the encoded bytes; None if they are not here.
    """

    def __init__(self, stored: Any) -> None:
        self.path = stored.get("path") if isinstance(stored, Mapping) else None
        self.data = stored_bytes(stored)

    @cached_property
    def decoded(self) -> images.Decoded | None:
        """The upright RGB image and its format; None if it cannot be decoded."""
        try:
            return None if self.data is None else images.decode(self.data)
        except UnreadableImage:
            return None

    @property
    def pixels(self) -> Image | None:
        """The upright RGB image; None if it cannot be decoded."""
        return None if self.decoded is None else self.decoded.pixels

    def encoded_again(self) -> bytes:
        """A file of these pixels alone: nothing can hide beside them, such as in a palette or behind the last block.

        It is lossless if the stored file was, else of quality 95 (WebP: 90). Raises `UnreadableImage`.
        """
        decoded = images.decode(self.data) if self.decoded is None else self.decoded
        lossy = "webp" if decoded.format == "WEBP" else "auto"
        return images.encode(decoded.pixels, images.choose_format(decoded, "auto" if decoded.lossless else lossy))

    def faults(self) -> Iterator[tuple[str, str]]:
        """(reason code, what is wrong) of an image that is to leave."""
        if self.path:
            yield "file_name", "an image has a path or a file name"
        if self.data is None or self.pixels is None:
            yield "unreadable", "an image cannot be decoded"
            return
        if left := images.metadata_in(self.data):
            yield "metadata", f"an image holds {', '.join(left)}"
        if hidden := images.beyond_rgb(self.data):
            yield "alpha", f"an image stores {', '.join(hidden)}, where a picture can hide"


@dataclass(frozen=True)
class Candidate:
    """One row of a source.

    Args:
        public: the columns that would leave, by name; the image as it is stored, {bytes, path}. Empty if the row has
            no public half.
        status: `safe`, `anonymized`, `withheld` or whatever stands there.
        flagged: whether the original is private; a row about which nothing is known counts as private.
        review: the privacy review.
        caption: the private caption, or "".
        classes: names of its classes, which the user publishes; a text may say them.
        names: what the row's own file is called.
        seed: the row's own seed.
        scores: score -> value, None if it was not measured.
        decision: a curator's: None if no review was asked for, "approve" or "reject"; anything else is pending.
        original: the stored original; None if it cannot be had.
        others: further images of the row, any of which may be the original instead.
        is_bound: whether the image's bytes are bound to a run that encoded them; others are encoded again.
    """

    public: Mapping[str, Any]
    status: str
    flagged: bool = True
    review: Sequence[dict[str, Any]] = ()
    caption: str = ""
    classes: str = ""
    names: Sequence[str] = ()
    seed: int | None = None
    scores: Mapping[str, float | None] = field(default_factory=dict)
    decision: str | None = None
    original: Any = None
    others: Sequence[Any] = ()
    is_bound: bool = False

    @cached_property
    def image(self) -> StoredImage:
        """The image that would leave."""
        return StoredImage(self.public.get(c.ANONYMIZED_IMAGE))

    def leaving(self) -> dict[str, Any]:
        """The public columns, with the image as it leaves."""
        if self.is_bound:
            return dict(self.public)
        return {**self.public, c.ANONYMIZED_IMAGE: {"bytes": self.image.encoded_again(), "path": None}}

    @cached_property
    def originals(self) -> tuple[StoredImage, ...]:
        """Everything that the row's image is compared with."""
        return tuple(StoredImage(stored) for stored in (self.original, *self.others))

    @property
    def private_boxes(self) -> list[Box]:
        """Where its review says that something private is, in pixels of the upright original.

        Raises:
            ValueError: a box is not four finite numbers with an area.
        """
        return [_box(item["box"]) for item in self.review if item.get("box") is not None]

    @property
    def is_blurred(self) -> bool:
        """Whether its provenance says that it was redacted by averaging: shapes stay, detail goes."""
        try:
            editor = json.loads(self.public.get(c.PROVENANCE) or "{}").get("editor") or {}
        except (ValueError, AttributeError):
            return False
        return isinstance(editor, dict) and editor.get("method") in ("blur", "pixelate")

    @property
    def row_id(self) -> str:
        """The row's public name, or ""."""
        return str(self.public.get(c.ROW_ID, ""))


def _box(value: Any) -> Box:
    try:
        x0, y0, x1, y1 = (float(v) for v in value)
    except TypeError as error:
        raise ValueError(f"{value!r} is no box") from error
    if not (math.isfinite(x0 + y0 + x1 + y1) and x0 < x1 and y0 < y1):
        raise ValueError(f"{value!r} has no area")
    return x0, y0, x1, y1


def classes_of(row: Mapping[str, Any], features: Mapping[str, Any]) -> str:
    """The names of a row's classes, in one text."""
    labels = [(f, row.get(name)) for name, f in features.items() if isinstance(f, ClassLabel)]
    return " ".join(f.names[v] for f, v in labels if isinstance(v, int) and 0 <= v < f.num_classes).replace("_", " ")


def caption_of(row: Mapping[str, Any], public: Mapping[str, Any]) -> str:
    """A row's private caption; "" if the row is held back and its public caption is the same, so not private."""
    caption = row.get(c.PRIVATE_CAPTION) or ""
    return caption if public or caption != row.get(c.PUBLIC_CAPTION) else ""


def rounded(value: float | None) -> float | None:
    """A score with two digits: with all of them it would recognise a candidate original."""
    return None if value is None or not math.isfinite(value) else float(f"{value:.2g}")
