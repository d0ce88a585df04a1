"""Fourth arrow: rewrite what is flagged, prove that it is gone, withhold what cannot be proven."""

from __future__ import annotations

import importlib.metadata
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from PIL import Image

from u2s_datasets import columns, images
from u2s_datasets.editors.redact import Redact, regions
from u2s_datasets.errors import EditFailed, ResidueFound, RowError, SetupError
from u2s_datasets.parts import Box, Detection, Detector, Edit, Editor
from u2s_datasets.rows import Row
from u2s_datasets.stages import verify
from u2s_datasets.stages.caption import Caption
from u2s_datasets.stages.inspect import Inspect
from u2s_datasets.stages.instruct import Instruct
from u2s_datasets.stages.step import Step, each, each_row

USER = "user"
"""Category of boxes that the user gave: any detector may find something in them."""

FORMATS = ("auto", *images.ENCODED_FORMATS)


@dataclass(frozen=True)
class Anonymize(Step):
    """Give every row a publishable image, or none and a reason.

    The earlier arrows run first where their columns are absent. Rows that were not flagged are re-encoded; flagged
    rows are edited and inspected again. On residue follow a new seed with a stronger setting and the residue's own
    boxes, then redaction of what remains, then withholding (law 4).

    Args:
        editor: the part that changes pixels.
        inspect, caption, instruct: the earlier arrows; `inspect` also verifies.
        verify: whether to inspect the output. Without it every row says so in its provenance.
        attempts: how often the editor may try, 1 or more.
        format: "auto" (JPEG for lossy sources, PNG for lossless ones), "jpeg", "png" or "webp".
        seed: seed of the run; each row's own is derived from it and the image's pixels (law 5).
        boxes_column: a column of boxes (x0, y0, x1, y1) to hide as well, in pixels of the upright image.
        image_column: the column that holds the source image.

    Raises:
        SetupError: a value that cannot work, before the first row.
    """

    editor: Editor = Redact()
    inspect: Inspect = Inspect()
    caption: Caption = Caption()
    instruct: Instruct = Instruct()
    verify: bool = True
    attempts: int = 3
    format: str = "auto"
    seed: int = 0
    boxes_column: str | None = None

    writes = columns.ANONYMIZE

    def check(self) -> None:
        """Raises `SetupError` for a format or number that cannot work, then checks the parts."""
        if self.attempts < 1:
            raise SetupError(f"attempts={self.attempts!r} is below 1; the editor has to try at least once")
        if self.format not in FORMATS:
            raise SetupError(f"format={self.format!r} is unknown; use one of: {', '.join(FORMATS)}")
        super().check()

    def inputs(self) -> tuple[str, ...]:
        """The earlier arrows' columns, and the boxes'."""
        own = () if self.boxes_column is None else (self.boxes_column,)
        return (*columns.INSPECT, *columns.CAPTION, *columns.INSTRUCT, *own)

    def answers(self, present: set[str]) -> tuple[str, ...]:
        """This step's columns and those of the earlier arrows that ran."""
        earlier = [s for s in self._earlier() if not set(s.writes) <= present]
        return (*(name for step in earlier for name in step.writes), *self.writes)

    def _earlier(self) -> tuple[Step, ...]:
        return (self.inspect, self.caption, self.instruct)

    def run(self, batch: Sequence[Row]) -> None:
        """Write the image, status, note, seed and provenance, and the earlier arrows' columns where absent."""
        self._run_earlier(batch)
        plans = [_Plan(row) for row in batch]
        for plan in plans:
            _recall_failure(plan.row)
        live = [p for p in plans if p.row.failure is None]
        by_row = {id(p.row): p for p in live}
        each_row([p.row for p in live], lambda row: self._prepare(by_row[id(row)]), "unreadable")
        self._edit([p for p in live if p.flagged and p.row.failure is None])
        for plan in plans:
            self._finish(plan)

    def _run_earlier(self, batch: Sequence[Row]) -> None:
        for step in self._earlier():
            absent = [row for row in batch if not set(step.writes) <= set(row.fields)]
            given = [row.fields.get(columns.PRIVACY_FLAG) for row in absent]
            step.run(absent)
            for row, flag in zip(absent, given, strict=True):
                if flag is True:  # a flag that the user gave alone is not taken back by a detector
                    row.fields[columns.PRIVACY_FLAG] = True

    def _prepare(self, plan: _Plan) -> None:
        row, pixels = plan.row, plan.row.decoded.pixels
        given = self._given_boxes(row)
        plan.found = [*_detections(row.fields.get(columns.PRIVACY_REVIEW) or []), *given]
        plan.flagged = row.fields.get(columns.PRIVACY_FLAG) is not False or bool(given)
        if not plan.flagged:
            row.edited, row.residue = pixels, []  # `inspect` saw these very pixels
            return
        row.fields[columns.PRIVACY_FLAG] = True
        plan.hide(plan.found)
        plan.seed = images.content_seed(pixels, self.seed)
        if self.editor.redacts and not plan.boxes:
            raise EditFailed("flagged, but no region is known that could be hidden", "nothing_to_edit")

    def _given_boxes(self, row: Row) -> list[Detection]:
        boxes = row.fields.get(self.boxes_column) if self.boxes_column else None
        return [Detection(USER, tuple(float(v) for v in box), 1.0) for box in boxes or ()]  # type: ignore[arg-type]

    def _edit(self, plans: Sequence[_Plan]) -> None:
        pending = list(plans)
        for strength in range(self.attempts):
            self._attempt(pending, self.editor, strength)
            pending = [p for p in pending if p.row.failure is None and p.residue]
        if not self.editor.redacts:
            self._redact_remains(pending)
            pending = [p for p in pending if p.row.failure is None and p.residue]
        for plan in pending:
            kinds = sorted({d.category for d in plan.residue})
            plan.row.fail(ResidueFound(f"still found after {len(plan.attempts)} attempts: {', '.join(kinds)}"))

    def _attempt(self, plans: Sequence[_Plan], editor: Editor, strength: int) -> None:
        by_row = {id(p.row): p for p in plans}
        rows = [p.row for p in plans]
        outputs = each(rows, lambda rs: editor.edit([by_row[id(r)].order(strength) for r in rs]), "edit_failed")
        for plan, output in zip(plans, outputs, strict=True):
            plan.accept(output)
        edited = [p for p in plans if p.row.failure is None]
        for plan in edited:
            plan.attempts.append({"editor": type(editor).__name__, "strength": strength, "residue": None})
        if self.verify:
            self._look_again(edited, editor.redacts)

    def _look_again(self, plans: Sequence[_Plan], absolute: bool) -> None:
        seen: dict[int, list[Detection]] = {id(p): [] for p in plans}
        for detector in self.inspect.detectors:
            live = [p for p in plans if p.row.failure is None]
            by_row = {id(p.row): p for p in live}

            def look(rs: Sequence[Row], d: Detector = detector, plan_of: dict[int, _Plan] = by_row) -> Any:
                plans = [plan_of[id(r)] for r in rs]
                return d.residue([p.edited_array for p in plans], [p.to_look_at(d, absolute) for p in plans])

            for plan, found in zip(live, each([p.row for p in live], look, "inspect_failed"), strict=True):
                seen[id(plan)] += found or []
        for plan in plans:
            plan.judge(seen[id(plan)], absolute)
            plan.attempts[-1]["residue"] = len(plan.residue)
            plan.hide([*plan.hidden, *plan.residue])

    def _redact_remains(self, plans: Sequence[_Plan]) -> None:
        """The last attempt of a rewriting editor: its own output, with what remains of the original hidden."""
        for plan in plans:
            plan.start = plan.row.edited
            plan.hide(plan.residue)
        self._attempt(plans, Redact(), 0)

    def _finish(self, plan: _Plan) -> None:
        row, data = plan.row, None
        if row.failure is None:
            data = each([row], lambda rs: [self._encoded(rs[0])], "encode_failed")[0]
        status = columns.ANONYMIZED if plan.flagged else columns.SAFE
        row.fields |= {
            columns.ANONYMIZED_IMAGE: None if data is None else {"bytes": data, "path": None},
            columns.STATUS: columns.WITHHELD if data is None else status,
            columns.NOTE: None if row.failure is None else f"{row.failure.code}: {row.failure}",
            columns.REASON: None if row.failure is None else row.failure.code,
            columns.SEED: plan.seed,
            columns.PROVENANCE: self._provenance(plan),
        }
        if data is None:
            row.edited = None

    def _encoded(self, row: Row) -> bytes:
        if row.edited is None:
            raise EditFailed("no edited image came out")
        data = images.encode(row.edited, images.choose_format(row.decoded, self.format))
        left = images.metadata_in(data)
        if left:
            raise RowError(f"the encoded image still holds {', '.join(left)}", "encode_failed")
        return data

    def _provenance(self, plan: _Plan) -> str:
        facts = {
            "editor": self.editor.config() if plan.flagged else None,
            "attempts": plan.attempts,
            "verified": self.verify,
            "inspected": list(self.inspect.categories),
            "versions": {"u2s_datasets": importlib.metadata.version("u2s_datasets")},
        }
        return json.dumps(facts, sort_keys=True)


@dataclass
class _Plan:
    """What `Anonymize` knows of one row while it works on it."""

    row: Row
    flagged: bool = True
    found: list[Detection] = field(default_factory=list)
    hidden: list[Detection] = field(default_factory=list)
    boxes: list[Box] = field(default_factory=list)
    seed: int | None = None
    residue: list[Detection] = field(default_factory=list)
    attempts: list[dict[str, Any]] = field(default_factory=list)
    start: Image.Image | None = None
    edited_array: np.ndarray = field(default_factory=lambda: np.empty(0, np.uint8))

    def hide(self, detections: Sequence[Detection]) -> None:
        """From now on the editor is to change the regions of these."""
        self.hidden = list(detections)
        self.boxes = regions(self.hidden, self.row.decoded.pixels.size)

    def to_look_at(self, detector: Detector, absolute: bool) -> list[Box]:
        """Where a detector looks again: around what it found itself, or everywhere if everything was rewritten."""
        size = self.row.decoded.pixels.size
        if not absolute:
            return [(0.0, 0.0, float(size[0]), float(size[1]))]
        own = [d for d in self.hidden if d.category in detector.categories or d.category == USER]
        return regions(own, size)

    def order(self, strength: int) -> Edit:
        """The editor's order for this attempt: another seed at every attempt, the row's own texts."""
        fields = self.row.fields
        return Edit(
            image=self.start or self.row.decoded.pixels,
            source_prompt=fields.get(columns.PRIVATE_CAPTION) or "",
            target_prompt=fields.get(columns.EDIT_CAPTION) or "",
            instruction=fields.get(columns.EDIT_INSTRUCTION) or "",
            public_caption=fields.get(columns.PUBLIC_CAPTION) or "",
            boxes=tuple(self.boxes),
            seed=((self.seed or 0) + len(self.attempts)) % 2**63,
            strength=strength,
        )

    def accept(self, output: Image.Image | None) -> None:
        """Take an editor's output, or fail the row where it cannot be one."""
        original = self.row.decoded.pixels
        if output is None:
            self.row.fail(EditFailed("the editor gave no image"))
        elif output.size != original.size or output.mode != "RGB":
            self.row.fail(EditFailed(f"the editor gave {output.mode} {output.size} for RGB {original.size}"))
        else:
            self.edited_array = np.asarray(output)
            if np.array_equal(self.edited_array, self.row.array):
                self.row.fail(EditFailed("the editor gave the original back"))
            self.row.edited = output

    def judge(self, found: Sequence[Detection], absolute: bool) -> None:
        """Set the residue from what was found in the output."""
        self.residue = verify.remaining(found, self.row.array, self.edited_array, self.found, absolute)
        self.row.residue = self.residue


def _detections(review: Sequence[dict[str, Any]]) -> list[Detection]:
    return [
        Detection(item["category"], tuple(item["box"]), item["score"], item["item"] or "")  # type: ignore[arg-type]
        for item in review
        if item["box"] is not None
    ]


def _recall_failure(row: Row) -> None:
    """A row that an earlier `map` could not judge carries its failure in its review."""
    for item in row.fields.get(columns.PRIVACY_REVIEW) or ():
        if item["category"] == columns.ERROR:
            row.fail(RowError(item["reason"], item["item"]))
