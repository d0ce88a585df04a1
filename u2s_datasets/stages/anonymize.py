"""Fourth step: rewrite what is flagged, prove that it is gone, withhold what cannot be proven."""

import dataclasses
import functools
import importlib.metadata
import json
from collections.abc import Sequence
from dataclasses import dataclass

from u2s_datasets import columns, images
from u2s_datasets.errors import EditFailed, ResidueFound, RowError, SetupError
from u2s_datasets.images.originals import Originals
from u2s_datasets.parts import Backend, Detection, Detector, Editor, checks
from u2s_datasets.parts.editors.redact import Redact
from u2s_datasets.parts.metrics.face_encoders import FaceEncoder
from u2s_datasets.stages.base import Step, alive, check_backend, check_detections, each, each_row, restore_failure
from u2s_datasets.stages.batch import Row
from u2s_datasets.stages.caption import Caption
from u2s_datasets.stages.inspect import Inspect
from u2s_datasets.stages.instruct import Instruct
from u2s_datasets.stages.pair_judge import PairJudge
from u2s_datasets.stages.residue import WHOLE_IMAGE
from u2s_datasets.stages.row_edit import CLASS_NAME, PRIORS, USER, RowEdit, check_review_boxes, user_detections

RECENT = 512  # originals that an output of a rewriting editor is compared with, as small copies of 9 kB in memory
FORMATS = ("auto", *images.ENCODED_FORMATS)


@dataclass(frozen=True)
class Anonymize(Step):
    """Give every row a publishable image, or no image and a reason.

    The earlier steps run first if their columns are absent. If `inspect`'s columns are given, they add to what its
    detectors find here and never replace it, since they may be of another image: the review of a flagged row gains
    what was found, so that no public text says it. With `verify=False` they are trusted. A model is never asked for
    its judgement again, so its FALSE among them is taken at its word: give columns of these very rows. Rows that were
    not flagged are re-encoded; flagged rows are edited and inspected again. On residue follow a new seed with a
    stronger setting and the residue's own boxes, then redaction of what remains, then withholding (law 4).

    What a model flags has no box. Redaction hides the boxes that detectors or the user know, then asks the model
    again, and withholds what it still flags. A rewriting editor then changes the whole picture, whatever its region,
    and a model compares it with the original, item by item (law 10); without a model the row is withheld. The
    provenance calls a row verified only if evidence with a box was looked for again, or a model was asked.

    Where faces were found, a face network looks in a rewriting editor's output for the people of the original (law 9);
    who is recognised is residue. Without a network nobody can tell, so that faces are redacted instead of rewritten.

    Args:
        editor: the part that changes pixels.
        identity: the face network, such as `u2s.DlibFaces()`, for editors that rewrite; None redacts all faces.
        inspect, caption, instruct: the earlier steps; `inspect` also verifies.
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
            an empty list means that there are none, and a row with null or an impossible box is withheld.
        judge: a model that sees two images and weighs choices: whether what was flagged without a place is gone from
            a rewritten image; None takes that of `inspect`.
        image_column: the column that holds the source image.

    Raises:
        SetupError: a value that cannot work, or a column that is missing.

    Input columns:
        image: the source image.
        privacy_flag, privacy_score, privacy_review: of `inspect`, which else runs here.
        private_caption, public_caption: of `caption`, which else runs here.
        edit_instruction, edit_caption: of `instruct`, which else runs here.

    Output columns:
        anonymized_image: the publishable image without metadata; None for a withheld row.
        anonymization_status: "safe", "anonymized" or "withheld".
        anonymization_note: why the row was withheld. Private.
        anonymization_seed: the seed of the first attempt; None without one. Private.
        provenance: JSON of the editor, the attempts, what was verified and the version.
        privacy_flag, privacy_score, privacy_review: those that are absent.
        private_caption, public_caption: those that are absent.
        edit_instruction, edit_caption: those that are absent.
    """

    editor: Editor = Redact()
    identity: FaceEncoder | None = None
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
    judge: Backend | None = None

    writes = columns.ANONYMIZE
    shown = ("prior",)

    def check(self) -> None:
        """Raises `SetupError` for a part, format, number or prior that cannot work, then checks the parts."""
        checks.check_instance("editor", self.editor, Editor, "u2s.Redact(method='solid')")
        checks.check_instance("identity", self.identity, FaceEncoder, "u2s.DlibFaces()", optional=True)
        for kind in (Inspect, Caption, Instruct):
            name = kind.__name__.lower()
            checks.check_instance(name, getattr(self, name), kind, f"u2s.{kind.__name__}()")
        checks.check_int("attempts", self.attempts)
        checks.check_int("seed", self.seed, least=None)
        checks.check_choice("format", self.format, FORMATS)
        checks.check_choice("prior", self.prior, PRIORS)
        if self.prior == CLASS_NAME and self._label_column is None:
            raise SetupError("prior='class_name' needs the classes; give label_column='...', a column of the dataset")
        check_backend("judge", self.judge)
        super().check()

    @property
    def _judge(self) -> Backend | None:
        return self.judge or self.inspect.backend

    @property
    def _label_column(self) -> str | None:
        return self.label_column or self.instruct.label_column

    def inputs(self) -> tuple[str, ...]:
        """The columns of the earlier steps."""
        return (*columns.INSPECT, *columns.CAPTION, *columns.INSTRUCT)

    def required(self) -> tuple[str, ...]:
        """The columns of boxes and classes that were named."""
        names = (self.boxes_column, self.label_column, self.instruct.label_column)
        return tuple(dict.fromkeys(name for name in names if name is not None))

    def output_columns(self, present: set[str]) -> tuple[str, ...]:
        """This step's columns and those of the earlier steps that ran."""
        ran = [step for step in (self.inspect, self.caption, self.instruct) if not set(step.writes) <= present]
        return tuple(dict.fromkeys([*(name for step in ran for name in step.output_columns(present)), *self.writes]))

    def run(self, batch: Sequence[Row]) -> None:
        """Write the image, status, note, seed and provenance, and the earlier steps' columns that are absent."""
        self._inspect(batch)
        for step in (self.caption, self.instruct):
            step.run([row for row in batch if not set(step.writes) <= set(row.fields)])
        edits = each_row(batch, self._start_edit, "error")
        self._edit([edit for edit in edits if edit is not None])
        for row, edit in zip(batch, edits, strict=True):
            self._finish(row, edit)

    def _inspect(self, batch: Sequence[Row]) -> None:
        for row in batch:
            restore_failure(row)
        each_row(alive(batch), check_review_boxes, "error")
        given = [row for row in batch if set(columns.INSPECT) <= set(row.fields)]
        self.inspect.run([row for row in batch if row not in given])
        if self.verify:
            self.inspect.detect(alive(given))
        each_row(alive(given), self.inspect.add_found, "error")

    def _start_edit(self, row: Row) -> RowEdit | None:
        """The edit of a flagged row; None for a withheld one, and for any other, whose pixels are published as is."""
        if row.failure is not None:
            return None
        pixels, found = row.decoded.pixels, row.found or []
        boxes = user_detections(row.fields.get(self.boxes_column), pixels.size) if self.boxes_column else []
        if not (row.is_flagged or boxes or self.inspect.is_evidence(found)):
            row.edited = pixels
            row.remaining_detections = None if row.found is None else []  # `inspect` saw these very pixels
            return None
        row.fields[columns.PRIVACY_FLAG] = True
        reported = [
            Detection(item["category"], tuple(item["box"]), item["score"], item["item"] or "")
            for item in row.review
            if item["box"] is not None
        ]
        # What was found in these very pixels is reported too, without its outline.
        known = {_place(d) for d in found}
        evidence = [*found, *(d for d in check_detections(reported) if _place(d) not in known)]
        has_localized = bool(boxes) or self.inspect.is_evidence(evidence)
        notes = (columns.ERROR, columns.LEAK)  # say something of our own work, not of the image
        unlocalized = [i["item"] or "" for i in row.review if i["box"] is None and i["category"] not in notes]
        if not (has_localized or unlocalized):  # weak boxes do not explain the flag
            unlocalized = [""]
        growth, shapes = self.inspect.growth(), self.inspect.shapes()
        words = list(dict.fromkeys(unlocalized))
        return RowEdit(row, growth, [*evidence, *boxes], has_localized, words, shapes)

    def _edit(self, edits: Sequence[RowEdit]) -> None:
        """Edit rows until nothing is left in them of what was private (law 4). Here stands the order of it all.

        The regions of an edit are hidden from its start, then its prompts are set. Every attempt lets the editor work,
        accepts its output and records what is left, which the next attempt hides as well. Where a rewriting editor
        gave a row the picture of another, all rows are edited alone and judged alone (law 9). After any other editor
        further attempts redact what is left in its output. A row in which something is left even then is withheld.
        """
        each_row(edits, self._prepare, "error")
        pending, settled = alive(edits), []
        if not self.editor.redacts:
            each_row(pending, lambda edit: _recent_originals().add(edit.row.array), "error")
        for strength in range(self.attempts):
            left = self._attempt(pending, self.editor, strength)
            settled += [edit for edit in left if edit.is_settled]
            pending = [edit for edit in left if not edit.is_settled]
        pending += settled
        if not _paints_boxes(self.editor):
            each_row(pending, RowEdit.redact_residue, "edit_failed")
            for _ in range(self.attempts):  # what is hidden may show what stood half behind it
                pending = self._attempt(alive(pending), Redact(), 0)
        for edit in pending:
            kinds = sorted({detection.category for detection in edit.residue})
            edit.fail(ResidueFound(f"still found after {len(edit.attempts)} attempts: {', '.join(kinds)}"))

    def _attempt(self, edits: Sequence[RowEdit], editor: Editor, strength: int) -> list[RowEdit]:
        """Edit, accept and look again; the rows in which something is left."""
        self._edit_and_accept(edits, editor, strength)
        if not editor.redacts and any(each_row(alive(edits), _shows_another, "inspect_failed")):
            self._edit_alone(alive(edits), editor, strength)
        if self.verify:
            for detector in self.inspect.detectors:
                self._look_again(detector, alive(edits), confined=_paints_boxes(editor))
            self._ask_a_model(alive(edits))
            if not editor.redacts:
                each_row(alive(edits), lambda edit: edit.recognise(self.identity), "inspect_failed")
            each_row(alive(edits), lambda edit: edit.record_residue(editor), "inspect_failed")
        return [edit for edit in alive(edits) if edit.residue]

    def _edit_and_accept(self, edits: Sequence[RowEdit], editor: Editor, strength: int) -> None:
        outputs = each(
            edits, lambda es: editor.edit([edit.to_edit(editor, self.seed, strength) for edit in es]), "edit_failed"
        )
        # A row whose edit failed has no output here; its first reason stands.
        each_row(edits, lambda edit, output: edit.accept(output, editor, strength), "edit_failed", outputs)

    def _edit_alone(self, edits: Sequence[RowEdit], editor: Editor, strength: int) -> None:
        """Edit each row of a batch by itself, since the editor mixed rows up; withhold what is still another's.

        It is the same attempt with the same seed, so that a row whose output was its own gets it again (law 5).
        """
        for edit in edits:
            edit.attempts.pop()
            self._edit_and_accept([edit], editor, strength)
            if any(each_row(alive([edit]), _shows_another, "inspect_failed")):
                edit.fail(ResidueFound("the editor gave another row's picture, also when it had this row alone"))

    def _prepare(self, edit: RowEdit) -> None:
        """Set the prompts. Redaction hides boxes; what has none needs a model to ask again after any edit."""
        if self.editor.redacts and not edit.boxes:
            raise EditFailed("flagged, but no region is known that could be hidden", "nothing_to_edit")
        if edit.unlocalized and self.editor.redacts and not (self.verify and self.inspect.backend):
            raise EditFailed("flagged for something without a known place, which cannot be redacted", "nothing_to_edit")
        if edit.unlocalized and self.verify and self._judge is None:
            raise EditFailed("no model was given that could say whether what has no place is gone", "unproven")
        edit.set_prompts(self.editor, self.prior, self._label_column)

    def _look_again(self, detector: Detector, edits: Sequence[RowEdit], confined: bool) -> None:
        claimed = {*self.inspect.categories}

        def look(es: Sequence[RowEdit]) -> Sequence[Sequence[Detection]]:
            boxes = [edit.boxes_to_inspect(detector, claimed, confined) for edit in es]
            return detector.residue([images.stretched(edit.output, like=edit.row.array) for edit in es], boxes)

        for edit, found in zip(edits, each(edits, look, "inspect_failed", check_detections), strict=True):
            edit.found += found or ()

    def _ask_a_model(self, edits: Sequence[RowEdit]) -> None:
        """Ask a model whether what it may have flagged without a box is gone.

        A redacted image it judges as it judged the original. A rewriting editor rightly draws new people, so of its
        images the model's flag says nothing, and the pair is compared (law 10).
        """
        asked = [edit for edit in edits if edit.unlocalized]
        if self._judge is not None and not self.editor.redacts:
            PairJudge(self._judge, self.inspect.criteria).judge(asked)
        elif self.inspect.backend is not None:
            rows = [Row(edit.row.edited, {}) for edit in asked]
            for edit, row, score in zip(asked, rows, self.inspect.score_privacy(rows), strict=True):
                edit.flagged_again = self.inspect.is_private_score(score)
                if row.failure is not None:
                    edit.fail(row.failure)

    def _finish(self, row: Row, edit: RowEdit | None) -> None:
        is_safe = edit is None and row.edited is not None
        data = each_row([row], self._encode, "encode_failed")[0] if row.failure is None else None
        row.fields |= {
            columns.ANONYMIZED_IMAGE: None if data is None else {"bytes": data, "path": None},
            columns.STATUS: columns.WITHHELD if data is None else columns.SAFE if is_safe else columns.ANONYMIZED,
            columns.NOTE: None if row.failure is None else f"{row.failure.code}: {row.failure}",
            columns.REASON: None if row.failure is None else row.failure.code,
            columns.SEED: None if edit is None else edit.seed,
            columns.PROVENANCE: self._provenance(row, edit, is_safe),
        }
        if data is None:
            row.edited = None

    def _encode(self, row: Row) -> bytes:
        if row.edited is None:
            raise EditFailed("no edited image came out")
        data = images.encode(row.edited, images.choose_format(row.decoded, self.format))
        left = images.metadata_in(data)
        if left:
            raise RowError(f"the encoded image still holds {', '.join(left)}", "encode_failed")
        return data

    def _provenance(self, row: Row, edit: RowEdit | None, is_safe: bool) -> str:
        facts = {
            "editor": None if is_safe else self.editor.config(),
            "identity": None if is_safe or self.identity is None else self.identity.config(),
            "prior": None if is_safe or self.editor.redacts else self.prior,
            "attempts": [] if edit is None else [dataclasses.asdict(attempt) for attempt in edit.attempts],
            "verified": self.verify
            and (is_safe or (edit is not None and (edit.cleared or self._was_looked_for(edit)))),
            "inspected": list(self.inspect.categories) if row.found is not None else [],
            "versions": {"u2s_datasets": _own_version()},
        }
        return json.dumps(facts, sort_keys=True)

    def _was_looked_for(self, edit: RowEdit) -> bool:
        """Whether what flagged the row has a box in which a detector that knows such things looked again.

        Nobody knows what the boxes show that a user gave; any detector may look there.
        """
        known = {*self.inspect.categories, USER, WHOLE_IMAGE}
        return edit.has_localized and bool(self.inspect.detectors) and {d.category for d in edit.hidden} <= known


def _place(detection: Detection) -> tuple[object, ...]:
    """What tells a detection from others, also after it lay in a table of 32-bit numbers."""
    return detection.category, *(f"{v:.1f}" for v in detection.box)


@functools.cache
def _own_version() -> str:
    """Cached: finding and parsing the package's metadata takes a thirtieth of a small photo's whole time."""
    return importlib.metadata.version("u2s_datasets")


@functools.cache
def _recent_originals() -> Originals:
    """Those that this process edited last, whatever batch they were in: an editor may keep what it saw.

    An editor that draws each row from that row alone shows none of them, so that of its rows nothing depends on which
    this process saw before (law 5). Of an editor that gives other rows' pictures, more is withheld the more was seen,
    and what was never seen here cannot be known again: a safeguard, and no proof.
    """
    return Originals(RECENT)


def _shows_another(edit: RowEdit) -> bool:
    return _recent_originals().shows_another(edit.row.array, edit.output)


def _paints_boxes(editor: Editor) -> bool:
    """Whether an editor changes the boxes that it is given, all of them, and nothing else."""
    return editor.redacts and editor.obeys_boxes
