"""One row's edit: what is hidden, what the editor is told, and what is left of the original (law 4)."""

import dataclasses
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image, ImageDraw

from u2s_datasets import columns, images
from u2s_datasets.errors import EditFailed, ResidueFound, RowError
from u2s_datasets.images import Shape
from u2s_datasets.images.shapes import bounds
from u2s_datasets.parts import Box, Detection, Detector, Edit, Editor, Grow, Region
from u2s_datasets.parts.editors.redact import Redact, hidden_regions, regions
from u2s_datasets.parts.metrics.face_encoders import FaceEncoder
from u2s_datasets.parts.metrics.privacy import overlap
from u2s_datasets.stages.batch import Row
from u2s_datasets.stages.people import FaceMemory, People
from u2s_datasets.stages.residue import WHOLE_IMAGE, find_residue, whole_image

# The five texts that an editor can be told to draw: columns, and "a realistic image of <class>".
CLASS_NAME = "class_name"
PRIORS = (columns.PRIVATE_CAPTION, CLASS_NAME, columns.PUBLIC_CAPTION, columns.EDIT_INSTRUCTION, columns.EDIT_CAPTION)

SAME_REGION = 0.5  # intersection over union from which two detections in the same pixels are of the same thing
USER = "user"  # category of boxes that the user gave: any detector may find something in them


@dataclass(frozen=True)
class EditAttempt:
    """One attempt as the provenance records it.

    Args:
        editor: the editor's class.
        redacts: whether it shows nothing in place of what it hides, so that any face or word still found is residue.
        strength: 0 at the first attempt, one more at each further attempt.
        residue: how many regions the last look still found; None if nobody looked.
    """

    editor: str
    redacts: bool
    strength: int
    residue: int | None = None


class RowEdit:
    """One flagged row on its way to an image in which nothing private is left.

    `Anonymize._edit` calls the methods in their order here; each attempt starts again with `to_edit`.

    Args:
        row: the row.
        growth: category -> how its boxes grow.
        evidence: what is to be hidden.
        has_localized: whether evidence with a box flags the row by itself, so that it can be looked for again.
        unlocalized: what is private and has no box, in words; "" for whatever a model flagged without a name.
        shapes: category -> the shape that hides it.

    Attributes:
        hidden: what the editor is to change, residue of earlier attempts included.
        boxes: the regions of `hidden`, grown and merged.
        regions: the same for a redacting editor, shaped.
        found_again: what was still found after an attempt to redact it.
        start: the image that the editor gets.
        attempts: what was done so far.
        seed: the seed of the first attempt.
        found: what detectors found in the last output.
        accepted: what detectors found in a rewriting editor's output and is not the original's.
        copied: whether the last output is not proven to have changed what it was to change.
        people: who of the original is still recognised in the last output.
        flagged_again: whether a model says of the last output that it is still private; None if it was not asked.
        judge_is_sound: whether the model that compares the row's images saw through their controls.
        residue: what is left of the original in the last output; [] if nobody looked.
        cleared: whether the model that flagged the row found nothing private in the output.
    """

    def __init__(
        self,
        row: Row,
        growth: Mapping[str, Grow],
        evidence: Sequence[Detection],
        has_localized: bool,
        unlocalized: Sequence[str],
        shapes: Mapping[str, Shape] | None = None,
    ) -> None:
        self.row, self.growth, self.shapes = row, growth, shapes or {}
        self.found_again: list[Detection] = []
        self.has_localized, self.unlocalized = has_localized, unlocalized
        self.start = row.decoded.pixels
        self.prompts: dict[str, str] = {}
        self.attempts: list[EditAttempt] = []
        self.seed: int | None = None
        self.output = np.empty(0, np.uint8)
        self.found: list[Detection] = []
        self.accepted: list[Detection] = []
        self.people = People([])
        self.copied = False
        self._faces: FaceMemory | None = None
        self.flagged_again: bool | None = None
        self.judge_is_sound = False
        self.residue: list[Detection] = []
        self.cleared = False
        self.hide(evidence)

    @property
    def original(self) -> Image.Image:
        """The upright pixels before any edit."""
        return self.row.decoded.pixels

    @property
    def failure(self) -> RowError | None:
        """What withheld the row; None while nothing has."""
        return self.row.failure

    def fail(self, error: RowError) -> None:
        """Withhold the row."""
        self.row.fail(error)

    def hide(self, detections: Sequence[Detection]) -> None:
        """Let the next attempt change the regions of these, and no others."""
        self.hidden = list(dict.fromkeys(detections))
        self.boxes: list[Box] = regions(self.hidden, self.start.size, self.growth)
        self.regions: list[Region] = hidden_regions(self.hidden, self.start.size, self.shapes, self.found_again)

    def set_prompts(self, editor: Editor, prior: str, label_column: str | None) -> None:
        """Set the texts for the editor, the target text from one of `PRIORS`.

        Raises:
            EditFailed: a text that the editor needs is empty.
        """
        fields = self.row.fields
        name = self.row.class_name(label_column) if prior == CLASS_NAME else ""
        target = (name and f"a realistic image of {name}") if prior == CLASS_NAME else fields.get(prior)
        self.prompts = {
            "source_prompt": fields.get(columns.PRIVATE_CAPTION) or "",
            "target_prompt": target or "",
            "instruction": fields.get(columns.EDIT_INSTRUCTION) or "",
            "public_caption": fields.get(columns.PUBLIC_CAPTION) or "",
        }
        for text in editor.needs:
            if not self.prompts[text].strip():
                where = f", from prior={prior!r}" if text == "target_prompt" else ""
                raise EditFailed(f"{type(editor).__name__} needs {text}{where}, which is empty in this row")

    def to_edit(self, editor: Editor, run_seed: int, strength: int) -> Edit:
        """What the editor is to do in this attempt, with another seed at every attempt."""
        image = self.start
        if editor.redacts:
            # Nothing of what is hidden may enter the seed: a pattern that is drawn from it would tell.
            image = image.copy()
            draw = ImageDraw.Draw(image)
            # Of our own regions their shapes alone, whose place and size are rounded.
            rounded = [bounds(outline) for region in self.regions for outline in region.outlines]
            for x0, y0, x1, y1 in rounded if type(editor) is Redact else self.boxes:
                draw.rectangle((math.floor(x0), math.floor(y0), math.ceil(x1), math.ceil(y1)), fill=0)
        seed = images.content_seed(image, run_seed + len(self.attempts))
        self.seed = seed if self.seed is None else self.seed
        boxes = () if self._changes_everything(editor) else tuple(self.boxes)
        again = [dataclasses.replace(r, strength=max(r.strength, strength)) if r.strength else r for r in self.regions]
        shaped = tuple(again) if editor.redacts else ()
        return Edit(self.start, **self.prompts, boxes=boxes, seed=seed, strength=strength, regions=shaped)

    def accept(self, output: Any, editor: Editor, strength: int) -> None:
        """Take the editor's output.

        Raises:
            EditFailed: it is not an image of the original's size and mode, or it is the original.
        """
        original = self.row.decoded.pixels
        if not isinstance(output, Image.Image):
            raise EditFailed(f"the editor gave {type(output).__name__} instead of an image")
        if output.size != original.size or output.mode != "RGB":
            raise EditFailed(f"the editor gave {output.mode} {output.size} for RGB {original.size}")
        self.output = np.asarray(output)
        if np.array_equal(self.output, self.row.array):
            raise EditFailed("the editor gave the original back")
        self.row.edited, self.found, self.flagged_again = output, [], None
        self.people = People([])
        self.attempts.append(EditAttempt(type(editor).__name__, editor.redacts, strength))

    def boxes_to_inspect(self, detector: Detector, claimed: set[str], confined: bool) -> list[Box]:
        """Where a detector looks again: around what it found itself, or everywhere if any pixel may have changed.

        Args:
            detector: the detector.
            claimed: categories of all detectors; at boxes that none of them claims, every detector looks.
            confined: whether pixels outside the boxes are those that the detector saw before.
        """
        width, height = self.row.decoded.pixels.size
        if not confined:
            return [(0.0, 0.0, float(width), float(height))]
        others = claimed - {*detector.category_names}
        return regions([d for d in self.hidden if d.category not in others], (width, height), self.growth)

    def recognise(self, identity: FaceEncoder | None) -> None:
        """Look in a rewriting editor's output for the people of the original (law 9), by this face network."""
        if self._faces is None:
            self._faces = FaceMemory(identity, self.row.array, self.hidden)
        self.people = self._faces.look(self.output, self.found)

    @property
    def is_settled(self) -> bool:
        """Whether faces are left of which no further attempt could show whose they are, so that they are redacted."""
        return self.people.is_final and all(d.category != WHOLE_IMAGE for d in self.residue)

    def record_residue(self, editor: Editor) -> None:
        """Set the residue from what detectors and the model say of the output, to be hidden by a further attempt."""
        original = self.row.array
        hidden = [*self.hidden, *([whole_image(original)] if self._changes_everything(editor) else [])]
        left = find_residue(self._unaccepted(), original, self.output, hidden, editor.redacts, type(editor) is Redact)
        self.copied = not editor.redacts and any(d in hidden for d in left)
        left += self.people.left
        if self.flagged_again:
            left.append(whole_image(original))
        self.cleared = self.flagged_again is False
        self.residue = list(dict.fromkeys(left))  # what was hidden before and is found again counts once
        self.row.remaining_detections = self.residue if editor.redacts else None
        self.row.surviving_original = None if editor.redacts else self.residue
        self.attempts[-1] = dataclasses.replace(self.attempts[-1], residue=len(self.residue))
        if editor.redacts:
            self.found_again += self.residue
        if self.residue:
            self.hide([*self.hidden, *self.residue])

    def _unaccepted(self) -> list[Detection]:
        """What was found, without new people and new words, whose pixels redaction beside them leaves as they are."""
        return [
            d
            for d in self.found
            if not any(d.category == one.category and overlap(d.box, one.box) >= SAME_REGION for one in self.accepted)
        ]

    def redact_residue(self) -> None:
        """Prepare the last attempts after any other editor: its own output, in which what is left is hidden.

        After a rewriting editor that copied it is the original, with all that was found hidden: nobody knows where in
        the output a copy went, and a detector may not see one that stands on its head.

        Raises:
            ResidueFound: the whole image is left, so that no part of it can be redacted; or something was copied and
                the original cannot be redacted either.
        """
        if any(d.category == WHOLE_IMAGE for d in self.residue):
            raise ResidueFound(
                "the picture was flagged as a whole and came back much as it was; no part can be redacted"
            )
        assert self.row.edited is not None
        if self.copied and self.unlocalized:
            raise ResidueFound("something of the original came back, and the copy may be anywhere in the picture")
        if self.copied and not self.attempts[-1].redacts:
            self.hide(self.hidden)
            return
        self.start = self.row.edited
        self.accepted = [d for d in self.found if all(d.box != left.box for left in self.residue)]
        self.hide(self.residue)

    def _changes_everything(self, editor: Editor) -> bool:
        """Whether a rewriting editor has to change the whole image, since what is private may be anywhere in it."""
        return not editor.redacts and bool(self.unlocalized)


def last_attempt(fields: Mapping[str, Any]) -> dict[str, Any] | None:
    """The `EditAttempt` that a row's provenance records last, as a dict; None for a row without an edit.

    Raises:
        ValueError: the provenance is not JSON of this package.
    """
    try:
        attempts = json.loads(fields.get(columns.PROVENANCE) or "{}").get("attempts") or []
        return {**attempts[-1]} if attempts else None
    except (AttributeError, TypeError, KeyError) as error:
        raise ValueError("not a provenance of this package") from error


def user_detections(values: Any, size: tuple[int, int]) -> list[Detection]:
    """The boxes that a user gave for a row, as detections; [] for an empty list.

    Args:
        values: boxes (x0, y0, x1, y1) in pixels of the upright image.
        size: (width, height) of the image.

    Raises:
        RowError: there is no list, or a box is malformed, relative to the image's size, or shows no pixel of it.
    """
    if values is None:
        raise RowError("no boxes were given for this row; an empty list means that there are none", "boxes")
    return [Detection(USER, _checked_box(value, size), 1.0) for value in values]


def check_review_boxes(row: Row) -> None:
    """Raise `RowError` for a box of the row's given review that `user_detections` would not take either."""
    for item in row.review:
        if item["box"] is not None:
            _checked_box(item["box"], row.decoded.pixels.size)


def _checked_box(value: Any, size: tuple[int, int]) -> Box:
    try:
        x0, y0, x1, y1 = (float(v) for v in value)
    except (TypeError, ValueError) as error:
        raise RowError(f"invalid box {value!r}; give (x0, y0, x1, y1) in pixels", "boxes") from error
    if not (math.isfinite(x0 + y0 + x1 + y1) and x1 > x0 and y1 > y0):
        raise RowError(f"the box {value!r} has no area; give (x0, y0, x1, y1) in pixels", "boxes")
    if max(x1, y1) <= 1 and min(size) > 1:
        raise RowError(f"the box {value!r} is relative to the image's size; give pixels", "boxes")
    if x0 >= size[0] or y0 >= size[1] or x1 <= 0 or y1 <= 0:
        raise RowError(f"the box {value!r} lies outside the image of {size[0]} x {size[1]} pixels", "boxes")
    return x0, y0, x1, y1
