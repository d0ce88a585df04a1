"""Fourth arrow: rewrite what is flagged, prove that it is gone, withhold what cannot be proven."""

from __future__ import annotations

import functools
import importlib.metadata
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from u2s_datasets import columns, images
from u2s_datasets.errors import EditFailed, ResidueFound, RowError, SetupError
from u2s_datasets.parts import Detection, Detector, Editor, checks
from u2s_datasets.parts.editors.redact import Redact
from u2s_datasets.stages.base import Step, each, each_row, recall_failure, sound
from u2s_datasets.stages.batch import Row
from u2s_datasets.stages.caption import Caption
from u2s_datasets.stages.inspect import Inspect
from u2s_datasets.stages.instruct import Instruct
from u2s_datasets.stages.plan import CLASS_NAME, PRIORS, USER, Plan, check_review, given_boxes
from u2s_datasets.stages.residue import WHOLE

FORMATS = ("auto", *images.ENCODED_FORMATS)


@dataclass(frozen=True)
class Anonymize(Step):
    """Give every row a publishable image, or none and a reason.

    The earlier arrows run first where their columns are absent. Where `inspect`'s are given they add to what its
    detectors find here and never replace it, since they may be of another image: the review of a flagged row gains
    what was found, so that no public text says it. With `verify=False` they are trusted. A model is never asked for
    its judgement again, so its FALSE among them is taken at its word: give columns of these very rows. Rows that were
    not flagged are re-encoded; flagged rows are edited and inspected again. On residue follow a new seed with a
    stronger setting and the residue's own boxes, then redaction of what remains, then withholding (law 4).

    What a model flags has no place. Redaction hides the places that detectors or the user know, then asks the model
    again, and withholds what it still flags. A rewriting editor changes the whole picture then, whatever its region;
    the provenance calls a row verified only where evidence with a place was looked for again, or the model was asked.

    Args:
        editor: the part that changes pixels.
        inspect, caption, instruct: the earlier arrows; `inspect` also verifies.
        verify: whether to inspect the output. Without it every row says so in its provenance.
        attempts: how often the editor may try, 1 or more.
        format: "auto" (JPEG for lossy sources, PNG for lossless ones), "jpeg", "png" or "webp".
        seed: seed of the run; each row's own is derived from it and the image's pixels (law 5).
        prior: the text that becomes the editor's target, one of `PRIORS`. "edit_caption" is the merged caption;
            "class_name" is "a realistic image of <class>", of the column that `label_column` names;
            "private_caption" shapes the image by private words, as the paper's comparison does, and no public column
            or provenance holds them. The source text is always the private caption, and an editor that takes
            instructions always gets `edit_instruction`. Redaction reads no text. A row that lacks a text which its
            editor needs is withheld.
        label_column: a column of class names, or of numbers whose `ClassLabel` names them; None takes that of
            `instruct`. A dataset's column, never the name of a folder.
        boxes_column: a column of lists of boxes (x0, y0, x1, y1) to hide as well, in pixels of the upright image;
            an empty list means none, and a row with null or an impossible box is withheld.
        image_column: the column that holds the source image.

    Raises:
        SetupError: a value that cannot work, or no such column.
    """

    editor: Editor = Redact()
    inspect: Inspect = Inspect()
    caption: Caption = Caption()
    instruct: Instruct = Instruct()
    verify: bool = True
    attempts: int = 3
    format: str = "auto"
    seed: int = 0
    prior: str = columns.EDIT_CAPTION
    label_column: str | None = None
    boxes_column: str | None = None

    writes = columns.ANONYMIZE
    shown = ("prior",)

    def check(self) -> None:
        """Raises `SetupError` for a part, format, number or prior that cannot work, then checks the parts."""
        checks.check_instance("editor", self.editor, Editor, "u2s.Redact(method='solid')")
        checks.check_instance("inspect", self.inspect, Inspect, "u2s.Inspect()")
        checks.check_instance("caption", self.caption, Caption, "u2s.Caption()")
        checks.check_instance("instruct", self.instruct, Instruct, "u2s.Instruct()")
        checks.check_int("attempts", self.attempts)
        checks.check_int("seed", self.seed, least=None)
        if self.format not in FORMATS:
            raise SetupError(f"format={self.format!r} is unknown; use one of: {', '.join(FORMATS)}")
        if self.prior not in PRIORS:
            raise SetupError(f"prior={self.prior!r} is unknown; use one of: {', '.join(PRIORS)}")
        if self.prior == CLASS_NAME and self._label_column is None:
            raise SetupError("prior='class_name' needs the classes; give label_column='...', a column of the dataset")
        super().check()

    @property
    def _label_column(self) -> str | None:
        return self.label_column or self.instruct.label_column

    def inputs(self) -> tuple[str, ...]:
        """The earlier arrows' columns."""
        return (*columns.INSPECT, *columns.CAPTION, *columns.INSTRUCT)

    def required(self) -> tuple[str, ...]:
        """The boxes' and the classes' columns, where they were named."""
        names = (self.boxes_column, self.label_column, self.instruct.label_column)
        return tuple(dict.fromkeys(name for name in names if name is not None))

    def answers(self, present: set[str]) -> tuple[str, ...]:
        """This step's columns and those of the earlier arrows that ran."""
        earlier = [s for s in (self.inspect, self.caption, self.instruct) if not set(s.writes) <= present]
        return tuple(dict.fromkeys([*(name for step in earlier for name in step.answers(present)), *self.writes]))

    def run(self, batch: Sequence[Row]) -> None:
        """Write the image, status, note, seed and provenance, and the earlier arrows' columns where absent."""
        self._inspect(batch)
        for step in (self.caption, self.instruct):
            step.run([row for row in batch if not set(step.writes) <= set(row.fields)])
        plans = [Plan(row, self.inspect.growth()) for row in batch]
        each_row([p for p in plans if p.alive], self._prepare, "error")
        self._edit([p for p in plans if p.flagged and p.alive])
        for plan in plans:
            self._finish(plan)

    def _inspect(self, batch: Sequence[Row]) -> None:
        given = [row for row in batch if set(columns.INSPECT) <= set(row.fields)]
        for row in batch:
            recall_failure(row)
        each_row([row for row in batch if row.failure is None], check_review, "error")
        self.inspect.run([row for row in batch if row not in given])
        if self.verify:
            self.inspect.look([row for row in given if row.failure is None])
        each_row([row for row in given if row.failure is None], self.inspect.add_found, "error")

    def _prepare(self, plan: Plan) -> None:
        row, pixels = plan.row, plan.row.decoded.pixels
        boxes = given_boxes(row.fields.get(self.boxes_column), pixels.size) if self.boxes_column else []
        found = row.found or []
        plan.flagged = row.fields.get(columns.PRIVACY_FLAG) is not False or bool(boxes) or self.inspect.flags(found)
        if not plan.flagged:
            row.edited = pixels
            row.residue = None if row.found is None else []  # `inspect` saw these very pixels
            return
        row.fields[columns.PRIVACY_FLAG] = True
        review = row.fields.get(columns.PRIVACY_REVIEW) or []
        reported = _detections(review)
        plan.hide([*found, *reported, *boxes])
        plan.located = bool(boxes) or self.inspect.flags([*found, *reported])
        plan.elsewhere = any(item["box"] is None and item["category"] not in _NOTES for item in review)
        if self.editor.redacts:
            self._check_places(plan)
        plan.aim(self.editor, self.prior, self._label_column)

    def _check_places(self, plan: Plan) -> None:
        """Redaction hides places. What has none can only be asked of the model again, once they are hidden."""
        if not plan.boxes:
            raise EditFailed("flagged, but no region is known that could be hidden", "nothing_to_edit")
        plan.elsewhere = plan.elsewhere or not plan.located
        if plan.elsewhere and not (self.verify and self.inspect.backend):
            raise EditFailed("flagged for something without a known place, which cannot be redacted", "nothing_to_edit")

    def _edit(self, plans: Sequence[Plan]) -> None:
        pending = list(plans)
        for strength in range(self.attempts):
            self._attempt(pending, self.editor, strength)
            pending = [p for p in pending if p.alive and p.residue]
        if not _paints_boxes(self.editor):
            each_row(pending, _redact_remains, "edit_failed")
            self._attempt([p for p in pending if p.alive], Redact(), 0)
            pending = [p for p in pending if p.alive and p.residue]
        for plan in pending:
            kinds = sorted({d.category for d in plan.residue})
            plan.fail(ResidueFound(f"still found after {len(plan.attempts)} attempts: {', '.join(kinds)}"))

    def _attempt(self, plans: Sequence[Plan], editor: Editor, strength: int) -> None:
        def edit(ps: Sequence[Plan]) -> list[Any]:
            return editor.edit([p.order(editor, self.seed, strength) for p in ps])

        outputs = dict(zip(map(id, plans), each(plans, edit, "edit_failed"), strict=True))
        live = [p for p in plans if p.alive]
        each_row(live, lambda p: p.accept(outputs[id(p)]), "edit_failed")
        live = [p for p in live if p.alive]
        for plan in live:
            facts = {"editor": type(editor).__name__, "redacts": editor.redacts, "strength": strength}
            plan.attempts.append({**facts, "residue": None})
        if self.verify:
            self._look_again(live, editor)

    def _look_again(self, plans: Sequence[Plan], editor: Editor) -> None:
        seen: dict[int, list[Detection]] = {id(p): [] for p in plans}
        claimed, confined = {*self.inspect.categories}, _paints_boxes(editor)
        for detector in self.inspect.detectors:
            live = [p for p in plans if p.alive]

            def look(ps: Sequence[Plan], d: Detector = detector) -> Sequence[Sequence[Detection]]:
                return sound(d.residue([p.edited for p in ps], [p.to_look_at(d, claimed, confined) for p in ps]))

            for plan, found in zip(live, each(live, look, "inspect_failed"), strict=True):
                seen[id(plan)] += found if found is not None else []  # none: the row has failed
        condemned = self._ask_again([p for p in plans if p.alive], editor)
        live = [p for p in plans if p.alive]
        each_row(live, lambda p: p.judge(seen[id(p)], editor, condemned.get(id(p))), "inspect_failed")
        each_row(
            [p for p in live if p.alive and p.residue], lambda p: p.hide([*p.hidden, *p.residue]), "inspect_failed"
        )

    def _ask_again(self, plans: Sequence[Plan], editor: Editor) -> dict[int, bool]:
        """By a plan's `id`, whether the model still flags its redacted picture; only those that it was asked about.

        A rewriting editor rightly draws new people, so of its pictures the model's flag says nothing.
        """
        asked = [p for p in plans if p.elsewhere and editor.redacts and self.inspect.backend]
        rows = [Row(p.row.edited, {}) for p in asked]
        scores = self.inspect.judge(rows)
        for plan, row in zip(asked, rows, strict=True):
            if row.failure is not None:
                plan.fail(row.failure)
        return {id(p): self.inspect.condemns(score) for p, score in zip(asked, scores, strict=True) if p.alive}

    def _finish(self, plan: Plan) -> None:
        row, data = plan.row, None
        if plan.alive:
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

    def _looked_for(self, plan: Plan) -> bool:
        """Whether what flagged the row has a place, where a detector looked again that knows such things.

        Of boxes that a user gave nobody knows what they show; any detector may look there.
        """
        known = {*self.inspect.categories, USER, WHOLE}
        return plan.located and bool(self.inspect.detectors) and {d.category for d in plan.hidden} <= known

    def _encoded(self, row: Row) -> bytes:
        if row.edited is None:
            raise EditFailed("no edited image came out")
        data = images.encode(row.edited, images.choose_format(row.decoded, self.format))
        left = images.metadata_in(data)
        if left:
            raise RowError(f"the encoded image still holds {', '.join(left)}", "encode_failed")
        return data

    def _provenance(self, plan: Plan) -> str:
        facts = {
            "editor": self.editor.config() if plan.flagged else None,
            "prior": self.prior if plan.flagged and not self.editor.redacts else None,
            "attempts": plan.attempts,
            "verified": self.verify and (not plan.flagged or plan.cleared or self._looked_for(plan)),
            "inspected": list(self.inspect.categories) if plan.row.found is not None else [],
            "versions": {"u2s_datasets": _own_version()},
        }
        return json.dumps(facts, sort_keys=True)


@functools.cache
def _own_version() -> str:
    """Looked up once: finding and parsing the package's metadata takes a thirtieth of a small photo's whole time."""
    return importlib.metadata.version("u2s_datasets")


_NOTES = (columns.ERROR, columns.LEAK)
"""Categories of the review that say something of our own work, not of the image."""


def _paints_boxes(editor: Editor) -> bool:
    """Whether an editor changes the boxes that it is given, wholly, and nothing else."""
    return editor.redacts and editor.obeys_boxes


def _redact_remains(plan: Plan) -> None:
    """Prepare the last attempt after any other editor: its own output, with what remains of the original hidden."""
    if any(d.category == WHOLE for d in plan.residue):
        raise ResidueFound("the picture was flagged as a whole and came back much as it was; no part can be redacted")
    plan.start = plan.row.edited
    plan.hide(plan.residue)


def _detections(review: Sequence[dict[str, Any]]) -> list[Detection]:
    found = [
        Detection(item["category"], tuple(item["box"]), item["score"], item["item"] or "")  # type: ignore[arg-type]
        for item in review
        if item["box"] is not None
    ]
    return list(sound([found])[0])
