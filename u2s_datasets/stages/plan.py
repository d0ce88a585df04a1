"""What `anonymize` knows of one row while it works on it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from PIL import Image, ImageDraw

from u2s_datasets import columns, images
from u2s_datasets.errors import EditFailed, RowError
from u2s_datasets.parts import Box, Detection, Detector, Edit, Editor, Grow
from u2s_datasets.parts.editors.redact import regions
from u2s_datasets.stages import residue
from u2s_datasets.stages.batch import Row

CLASS_NAME = "class_name"
PRIORS = (columns.PRIVATE_CAPTION, CLASS_NAME, columns.PUBLIC_CAPTION, columns.EDIT_INSTRUCTION, columns.EDIT_CAPTION)
"""The five texts that an editor can be told to draw: columns, and "a realistic image of <class>"."""

USER = "user"
"""Category of boxes that the user gave: any detector may find something in them."""


class Plan:
    """One row's edit.

    Args:
        row: it.
        growth: category -> how its boxes grow.

    Attributes:
        flagged: whether the row is to be edited.
        hidden: what the editor is to change, residue of earlier attempts included.
        located: whether evidence with a place flags the row by itself, so that it can be looked for again.
        elsewhere: whether something may be private that has no place: a model flagged the row, or named things.
        boxes: their regions, grown and merged.
        residue: what the last look at the output found; empty where nobody looked.
        cleared: whether the model that flagged the row found nothing in the output.
        texts: the text priors by the names that `Edit` has for them.
        attempts: a record of each, for the provenance.
        seed: seed of the first attempt.
    """

    def __init__(self, row: Row, growth: Mapping[str, Grow]) -> None:
        self.row = row
        self.growth = growth
        self.flagged = True
        self.hidden: list[Detection] = []
        self.located = False
        self.elsewhere = False
        self.cleared = False
        self.boxes: list[Box] = []
        self.residue: list[Detection] = []
        self.texts: dict[str, str] = {}
        self.attempts: list[dict[str, Any]] = []
        self.seed: int | None = None
        self.start: Image.Image | None = None
        self.edited = np.empty(0, np.uint8)

    def fail(self, error: RowError) -> None:
        """Withhold the row."""
        self.row.fail(error)

    @property
    def alive(self) -> bool:
        """Whether nothing has withheld the row yet."""
        return self.row.failure is None

    def hide(self, detections: Sequence[Detection]) -> None:
        """From now on the editor is to change the regions of these."""
        self.hidden = list(dict.fromkeys(detections))
        self.boxes = regions(self.hidden, self.row.decoded.pixels.size, self.growth)

    def aim(self, editor: Editor, prior: str, label_column: str | None) -> None:
        """Set the texts, the target text from one of `PRIORS`. Raises `EditFailed` where the editor lacks one."""
        fields = self.row.fields
        name = self.row.class_name(label_column) if prior == CLASS_NAME else ""
        target = (name and f"a realistic image of {name}") if prior == CLASS_NAME else fields.get(prior)
        self.texts = {
            "source_prompt": fields.get(columns.PRIVATE_CAPTION) or "",
            "target_prompt": target or "",
            "instruction": fields.get(columns.EDIT_INSTRUCTION) or "",
            "public_caption": fields.get(columns.PUBLIC_CAPTION) or "",
        }
        for text in editor.needs:
            if not self.texts[text].strip():
                where = f", from prior={prior!r}" if text == "target_prompt" else ""
                raise EditFailed(f"{type(editor).__name__} needs {text}{where}, which is empty in this row")

    def order(self, editor: Editor, run_seed: int, strength: int) -> Edit:
        """The editor's order for this attempt: another seed at every attempt, the row's own texts."""
        start = self.start or self.row.decoded.pixels
        seed = self._seed(start, editor, run_seed + len(self.attempts))
        if self.seed is None:
            self.seed = seed
        return Edit(
            image=start,
            **self.texts,
            boxes=() if self._everywhere(editor) else tuple(self.boxes),
            seed=seed,
            strength=strength,
        )

    def _everywhere(self, editor: Editor) -> bool:
        """Whether a rewriting editor has to change the whole picture, since what is private may be anywhere in it."""
        return not editor.redacts and (self.elsewhere or not self.located)

    def _seed(self, picture: Image.Image, editor: Editor, run_seed: int) -> int:
        """The content's seed. Of what redaction hides nothing enters it: a pattern drawn from the seed would tell."""
        if editor.redacts:
            picture = picture.copy()
            draw = ImageDraw.Draw(picture)
            for x0, y0, x1, y1 in self.boxes:
                draw.rectangle((math.floor(x0), math.floor(y0), math.ceil(x1), math.ceil(y1)), fill=0)
        return images.content_seed(picture, run_seed)

    def accept(self, output: Image.Image | None) -> None:
        """Take an editor's output. Raises `EditFailed` where it cannot be one."""
        original = self.row.decoded.pixels
        if not isinstance(output, Image.Image):
            raise EditFailed(f"the editor gave {type(output).__name__} instead of an image")
        if output.size != original.size or output.mode != "RGB":
            raise EditFailed(f"the editor gave {output.mode} {output.size} for RGB {original.size}")
        self.edited = np.asarray(output)
        if np.array_equal(self.edited, self.row.array):
            raise EditFailed("the editor gave the original back")
        self.row.edited = output

    def to_look_at(self, detector: Detector, others: set[str], confined: bool) -> list[Box]:
        """Where a detector looks again: around what it found itself, or everywhere if any pixel may be another.

        Args:
            others: categories of the other detectors; what none of them claims, every detector looks at.
            confined: whether pixels outside the boxes are those that the detector saw before.
        """
        size = self.row.decoded.pixels.size
        if not confined:
            return [(0.0, 0.0, float(size[0]), float(size[1]))]
        return regions(
            [d for d in self.hidden if d.category not in others - {*detector.category_names}], size, self.growth
        )

    def judge(self, found: Sequence[Detection], editor: Editor, condemned: bool | None) -> None:
        """Set the residue from what was found in the output.

        Args:
            editor: the one that made it.
            condemned: whether the model still flags it, after redaction; none where it was not asked.
        """
        whole = [residue.whole(self.row.array)] if self._everywhere(editor) else []
        hidden = [*self.hidden, *whole]
        left = residue.remaining(found, self.row.array, self.edited, hidden, editor.redacts, editor.obeys_boxes)
        if condemned:
            left.append(residue.whole(self.row.array))
        self.cleared = condemned is False
        self.residue = list(dict.fromkeys(left))  # what was hidden before and is found again counts once
        self.row.residue = self.residue
        self.attempts[-1]["residue"] = len(self.residue)


def given_boxes(values: Any, size: tuple[int, int]) -> list[Detection]:
    """The boxes that a user gave for a row, none for an empty list.

    Args:
        values: boxes (x0, y0, x1, y1) in pixels of the upright image.
        size: (width, height) of the image.

    Raises:
        RowError: they are none, or one is no box, is relative to the image's size, or shows no pixel of it.
    """
    if values is None:
        raise RowError("no boxes were given for this row; an empty list means that there are none", "boxes")
    return [Detection(USER, _given_box(value, size), 1.0) for value in values]


def check_review(row: Row) -> None:
    """Raises `RowError` where a box of the row's given review cannot be meant, as `given_boxes` does."""
    for item in row.fields.get(columns.PRIVACY_REVIEW) or ():
        if item["box"] is not None:
            _given_box(item["box"], row.decoded.pixels.size)


def _given_box(value: Any, size: tuple[int, int]) -> Box:
    try:
        x0, y0, x1, y1 = (float(v) for v in value)
    except (TypeError, ValueError) as error:
        raise RowError(f"{value!r} is no box; give (x0, y0, x1, y1) in pixels", "boxes") from error
    if not (math.isfinite(x0 + y0 + x1 + y1) and x1 > x0 and y1 > y0):
        raise RowError(f"the box {value!r} has no area; give (x0, y0, x1, y1) in pixels", "boxes")
    if max(x1, y1) <= 1 and min(size) > 1:
        raise RowError(f"the box {value!r} is relative to the image's size; give pixels", "boxes")
    if x0 >= size[0] or y0 >= size[1] or x1 <= 0 or y1 <= 0:
        raise RowError(f"the box {value!r} lies outside the image of {size[0]} x {size[1]} pixels", "boxes")
    return x0, y0, x1, y1
