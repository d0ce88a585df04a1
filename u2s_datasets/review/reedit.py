"""Editing rows of a finished run once more: with another seed, another editor, or boxes that a curator drew.

The source must still be in its place. A row that cannot be made safe this time is withheld; any other waits for a
review of its new image.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from u2s_datasets import columns as c
from u2s_datasets.errors import SetupError
from u2s_datasets.executor.pipeline import Pipeline
from u2s_datasets.executor.recorded_profile import run_profile
from u2s_datasets.parts import Box
from u2s_datasets.review import audit
from u2s_datasets.review import decisions as d
from u2s_datasets.runs.files import read_table
from u2s_datasets.runs.transaction import Change, replace_rows
from u2s_datasets.sources.base import Item, Source
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
        chosen: the steps; those of the run, with all their settings, where none is given.
        boxes: row id -> boxes (x0, y0, x1, y1) to hide as well, in pixels of the upright image.
        progress: called with the number of rows done and of all.
        options: of `recorded.run_profile`, such as `seed=7` or `editor="solid"`; not together with `chosen`.

    Returns:
        row id -> its status now.

    Raises:
        SetupError: an unknown row, no source any more, or a run whose steps cannot be made again.
    """
    folder = Path(folder).expanduser()
    known = d.places(folder)
    if missing := [row for row in rows if row not in known]:
        raise SetupError(f"{str(folder)!r} has no row {missing[0]!r}; import the run again")
    if chosen is not None and options:
        raise SetupError(f"chosen and {sorted(options)} exclude each other; give one of them")
    steps = chosen or run_profile(folder, **options)
    if not steps.anonymize.verify:
        raise SetupError("verify=False leaves the new images uninspected; pass a profile that verifies, as chosen=…")
    steps.anonymize.check()
    work = _Work(folder, steps, open_run_source(folder), boxes or {})
    ordered = sorted(set(rows), key=lambda row: (known[row].shard, known[row].index))
    done: dict[str, str] = {}
    for part in _chunks(ordered, known):
        new = work.edit([(row, known[row]) for row in part])
        work.save(new, known, by)
        done |= {row: answer[c.STATUS] for row, answer in new.items()}
        if progress is not None:
            progress(len(done), len(ordered))
    if done:
        from u2s_datasets.executor.run import rewrite_reports

        rewrite_reports(folder)
    return done


@dataclass(frozen=True)
class _Work:
    folder: Path
    profile: Profile
    source: Source
    boxes: Mapping[str, Sequence[Box]]

    def edit(self, rows: Sequence[tuple[str, d.Place]]) -> dict[str, dict[str, Any]]:
        """New values of rows, by row id, as a run itself makes them."""
        size = d.read_manifest(self.folder)["configuration"]["shard_size"]
        items = [self._item(place, place.shard * size + place.index) for _, place in rows]
        known = self._known({place.shard for _, place in rows})
        given = [{BOXES: self._boxes(row), **known[row]} for row, _ in rows]
        answers = Pipeline(self._with_boxes(), b"", kept=self.source.kept)(items, given)
        return {row: self._answer(row, answer) for (row, _), answer in zip(rows, answers, strict=True)}

    def _known(self, shards: set[int]) -> dict[str, dict[str, Any]]:
        """row id -> what was found in it so far, as given columns."""
        paths = [self.folder / "private" / "rows" / f"part-{number:05d}.parquet" for number in sorted(shards)]
        rows = (row for path in paths for row in read_table(path, [c.ROW_ID, *c.INSPECT]))
        return {row[c.ROW_ID]: _found_before(row) for row in rows}

    def _boxes(self, row: str) -> list[list[float]]:
        return [list(box) for box in self.boxes.get(row, ())]

    def _answer(self, row: str, answer: dict[str, Any]) -> dict[str, Any]:
        """A new row. What was drawn joins its review, so that the next edit hides it again."""
        review = answer.get(c.PRIVACY_REVIEW) or []
        if answer[c.REASON] != "boxes":  # those could not be used
            drawn = [c.review_item(USER, "", "drawn by a reviewer", box, 1.0) for box in self._boxes(row)]
            review = [*review, *(item for item in drawn if item not in review)]
        return {**answer, c.ROW_ID: row, c.PRIVACY_REVIEW: review}

    def _item(self, place: d.Place, position: int) -> Item:
        item = next(self.source.read(position, position + 1))
        if item.source != place.source:
            raise SetupError(f"row {position} of the source is another one now; put the source back as it was")
        return item

    def _with_boxes(self) -> Profile:
        step = dataclasses.replace(self.profile.anonymize, boxes_column=BOXES)
        return dataclasses.replace(self.profile, anonymize=step)

    def save(self, new: Mapping[str, Mapping[str, Any]], known: Mapping[str, d.Place], by: str) -> None:
        """Put new rows in the place of the old, and ask for a review of each.

        Also of a withheld one, which nobody sees meanwhile: it may come back when its shard is made anew.
        """
        with d.opened(self.folder) as output:
            audit.count(output, dict.fromkeys(new, d.REEDIT))
            stamp = d.now()
            asked = {row: d.entry(d.PENDING, by, stamp, known[row].shard) for row in new}
            entries = d.read_decisions(self.folder) | asked
            change = Change(output)
            replace_rows(change, new, self.source.kept)
            change.write(f"private/{d.FILE}", d.text_of(entries))
            change.remove.append(f"private/{audit.RESULT}")
            change.commit()


def open_run_source(folder: Path, to_show: bool = False) -> Source:
    """The source of a run, as the run read it.

    Args:
        folder: of the run.
        to_show: whether the originals are only looked at, so that a source that was changed since will do.

    Raises:
        SetupError: it is not in its place, or was changed.
    """
    from u2s_datasets.sources.open import open_source

    known = d.read_manifest(folder)
    place, names = known["source"], known["configuration"]["kept_columns"]
    if known["source_kind"] != "dataset" and not Path(place).exists():
        raise SetupError(f"the source {place!r} is not in its place; put it back to edit its rows again")
    source = open_source(place, image_column=known["image_column"], split=known["split"], keep=names, allow=names)
    if not to_show and source.fingerprint() != known["source_content"]:
        raise SetupError(f"the source {place!r} was changed since the run; run `u2s anonymize` on it into a new folder")
    return source


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


def _chunks(rows: Sequence[str], known: Mapping[str, d.Place]) -> Iterator[list[str]]:
    """Rows of one shard, at most `CHUNK` at a time."""
    part: list[str] = []
    for row in rows:
        if part and (len(part) == CHUNK or known[row].shard != known[part[0]].shard):
            yield part
            part = []
        part.append(row)
    if part:
        yield part
