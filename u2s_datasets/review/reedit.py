"""Editing rows of a finished run once more: with another seed, another editor, or boxes that a curator drew.

The source must still be in its place. A row that cannot be made safe this time is withheld; any other waits for a
review of its new image.
"""

import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from u2s_datasets import columns as c
from u2s_datasets.errors import SetupError
from u2s_datasets.evaluation.report.report import rewrite_reports
from u2s_datasets.executor.pipeline import Pipeline
from u2s_datasets.executor.recorded_profile import recorded_text_check, run_profile
from u2s_datasets.parts import Box, TextCheck
from u2s_datasets.review import audit
from u2s_datasets.review.decisions import check_rows
from u2s_datasets.runs.change import Change
from u2s_datasets.runs.decisions import PENDING, REEDIT, entry, read_decisions
from u2s_datasets.runs.files import read_table
from u2s_datasets.runs.layout import REVIEWS, Layout
from u2s_datasets.runs.manifest import RowLocation, locate_rows, read_manifest
from u2s_datasets.runs.origin import open_origin
from u2s_datasets.runs.writer import open_finished
from u2s_datasets.sources.base import Source
from u2s_datasets.stages.profiles import Profile
from u2s_datasets.stages.row_edit import USER

BOXES = "review_boxes"
"""Column by which a curator's boxes reach the step."""

CHUNK = 32
"""Rows whose new images are kept in memory before their shards are written."""


def reedit(
    folder: str | Path,
    rows: Sequence[str],
    *,
    by: str,
    chosen: Profile | None = None,
    boxes: Mapping[str, Sequence[Box]] | None = None,
    progress: Callable[[int, int], None] | None = None,
    **options: Any,
) -> dict[str, str]:
    """Edit rows of a run again; each waits for a review afterwards.

    What was found in a flagged row before, and what a curator drew, stays found: a re-edit adds to it and never
    takes back. A call that was interrupted can be repeated: rows are replaced by shards, each wholly or not at all.
    An audit's result is dropped, since it speaks of other images.

    Args:
        folder: of the run.
        rows: row ids.
        by: who asks for it.
        chosen: the steps; None for those of the run, with all their settings.
        boxes: row id -> boxes (x0, y0, x1, y1) to hide as well, in pixels of the upright image.
        progress: called with the number of rows done and of all.
        options: of `recorded.run_profile`, such as `seed=7` or `editor="solid"`; not together with `chosen`.

    Returns:
        row id -> its status now.

    Raises:
        SetupError: an unknown row, no source any more, or a run whose steps cannot be made again.
    """
    folder = Path(folder).expanduser()
    known = locate_rows(folder)
    check_rows(folder, list(rows), known)
    if chosen is not None and options:
        raise SetupError(f"chosen and {sorted(options)} exclude each other; pass one of them")
    steps = chosen or run_profile(folder, **options)
    if not steps.anonymize.verify:
        raise SetupError("verify=False leaves the new images uninspected; pass a profile that verifies, as chosen=…")
    steps.anonymize.check()
    work = _Work(folder, steps, open_origin(read_manifest(folder)), boxes or {}, recorded_text_check(folder))
    ordered = sorted(set(rows), key=lambda row: (known[row].shard, known[row].index))
    done: dict[str, str] = {}
    for part in _chunks(ordered, known):
        new = work.edit([(row, known[row]) for row in part])
        work.save(new, known, by)
        done |= {row: answer[c.STATUS] for row, answer in new.items()}
        if progress is not None:
            progress(len(done), len(ordered))
    if done:
        rewrite_reports(folder)
    return done


@dataclass(frozen=True)
class _Work:
    folder: Path
    profile: Profile
    source: Source
    boxes: Mapping[str, Sequence[Box]]
    text_check: TextCheck | None

    def edit(self, rows: Sequence[tuple[str, RowLocation]]) -> dict[str, dict[str, Any]]:
        """New values of rows, by row id, as a run itself makes them."""
        recorded = read_manifest(self.folder)["configuration"]
        size, allowed = recorded["shard_size"], recorded.get("allowed_columns", ())
        items = []
        for _, at in rows:
            position = at.shard * size + at.index
            items.append(next(self.source.read(position, position + 1)))
            if items[-1].source != at.source:
                raise SetupError(f"row {position} of the source has changed; put the source back as it was")
        boxes = {row: [list(box) for box in self.boxes.get(row, ())] for row, _ in rows}
        found: dict[str, dict[str, Any]] = {}
        for shard in sorted({at.shard for _, at in rows}):
            stored = read_table(Layout(self.folder).shard("private", shard), [c.ROW_ID, *c.INSPECT])
            found |= {row[c.ROW_ID]: _found_before(row) for row in stored}
        step = dataclasses.replace(self.profile.anonymize, boxes_column=BOXES)
        pipeline = Pipeline(
            dataclasses.replace(self.profile, anonymize=step), b"", self.source.kept, allowed, self.text_check
        )
        answers = pipeline(items, [{BOXES: boxes[row], **found[row]} for row, _ in rows])
        return {row: _with_drawn(row, answer, boxes[row]) for (row, _), answer in zip(rows, answers, strict=True)}

    def save(self, new: Mapping[str, Mapping[str, Any]], known: Mapping[str, RowLocation], by: str) -> None:
        """Put new rows in the place of the old, and ask for a review of each.

        Also of a withheld one, which nobody sees meanwhile: it may come back when its shard is made anew.
        """
        with open_finished(self.folder) as output:
            now = datetime.now(UTC)
            asked = {row: entry(PENDING, by, now, known[row].shard) for row in new}
            change = Change(output)
            audit.count(change, dict.fromkeys(new, REEDIT))
            change.replace_rows(new, self.source.kept)
            change.write_json(REVIEWS, read_decisions(self.folder) | asked)
            change.drop(audit.RESULT)
            change.commit()


def _with_drawn(row: str, answer: dict[str, Any], boxes: Sequence[list[float]]) -> dict[str, Any]:
    """A new row. What was drawn joins its review, so that the next edit hides it again."""
    review = answer.get(c.PRIVACY_REVIEW) or []
    if answer[c.REASON] != "boxes":  # those could not be used
        drawn = [c.review_item(USER, "", "drawn by a reviewer", box, 1.0) for box in boxes]
        review = [*review, *(item for item in drawn if item not in review)]
    return {**answer, c.ROW_ID: row, c.PRIVACY_REVIEW: review}


def _found_before(row: Mapping[str, Any]) -> dict[str, Any]:
    """The inspection's columns of a row, to be given to the steps.

    A row that was not flagged is inspected anew, by the model as well, which can only add. Where nothing is known
    but that the inspection failed, it is tried again, and the flag stays.
    """
    if row[c.PRIVACY_FLAG] is False:
        return {}
    review = [item for item in row[c.PRIVACY_REVIEW] or () if item["category"] != c.ERROR]
    flagged = {c.PRIVACY_FLAG: True}
    return {**flagged, c.PRIVACY_SCORE: row[c.PRIVACY_SCORE], c.PRIVACY_REVIEW: review} if review else flagged


def _chunks(rows: Sequence[str], known: Mapping[str, RowLocation]) -> Iterator[list[str]]:
    """Rows of one shard, at most `CHUNK` at a time."""
    part: list[str] = []
    for row in rows:
        if part and (len(part) == CHUNK or known[row].shard != known[part[0]].shard):
            yield part
            part = []
        part.append(row)
    if part:
        yield part
