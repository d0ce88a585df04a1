"""Editing rows of a finished run once more: with another seed, another editor, or boxes that a curator drew.

The source must still be in its place. A row that cannot be made safe this time is withheld; any other waits for a
review of its new image.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from u2s_datasets import catalog
from u2s_datasets import columns as c
from u2s_datasets.errors import SetupError
from u2s_datasets.parts import Box
from u2s_datasets.pipeline import Pipeline
from u2s_datasets.profiles import Profile, profile
from u2s_datasets.review import audit
from u2s_datasets.review import decisions as d
from u2s_datasets.review.rewrite import Change, replace_rows
from u2s_datasets.source import Item, Source

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

    A call that was interrupted can be repeated: rows are replaced by shards, each wholly or not at all. An audit's
    result is dropped, since it speaks of other images.

    Args:
        folder: of the run.
        rows: row ids.
        by: who asks for it.
        chosen: the steps; the run's own profile and detectors where none is given.
        boxes: row id -> boxes (x0, y0, x1, y1) to hide as well, in pixels of the upright image.
        progress: called with the number of rows done and of all.
        options: of `profiles.profile`, such as `seed=7` or `editor="solid"`; not together with `chosen`.

    Returns:
        row id -> its status now.

    Raises:
        SetupError: an unknown row, no source any more, or a run that cannot be repeated from its names.
    """
    folder = Path(folder).expanduser()
    known = d.places(folder)
    if missing := [row for row in rows if row not in known]:
        raise SetupError(f"{str(folder)!r} has no row {missing[0]!r}; import the run again")
    if chosen is not None and options:
        raise SetupError(f"chosen and {sorted(options)} exclude each other; give one of them")
    steps = chosen or run_profile(folder, **options)
    if not steps.anonymize.verify:
        raise SetupError("verify=False cannot stand in a run that says it was verified; leave it out")
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
        from u2s_datasets.runner import rewrite_reports

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
        given = [{BOXES: [list(box) for box in self.boxes.get(row, ())]} for row, _ in rows]
        answers = Pipeline(self._with_boxes(), b"", kept=self.source.kept)(items, given)
        return {row: {**answer, c.ROW_ID: row} for (row, _), answer in zip(rows, answers, strict=True)}

    def _item(self, place: d.Place, position: int) -> Item:
        item = next(self.source.read(position, position + 1))
        if item.source != place.source:
            raise SetupError(f"row {position} of the source is another one now; put the source back as it was")
        return item

    def _with_boxes(self) -> Profile:
        step = dataclasses.replace(self.profile.anonymize, boxes_column=BOXES)
        return dataclasses.replace(self.profile, anonymize=step)

    def save(self, new: Mapping[str, Mapping[str, Any]], known: Mapping[str, d.Place], by: str) -> None:
        """Put new rows in the place of the old, and ask for a review of each that is not withheld."""
        with d.opened(self.folder) as output:
            audit.count(output, dict.fromkeys(new, d.REEDIT))
            entries = {row: e for row, e in d.read_decisions(self.folder).items() if row not in new}
            stamp = d.now()
            for row, answer in new.items():
                if answer[c.STATUS] != c.WITHHELD:
                    entries[row] = d.entry(d.PENDING, by, stamp, known[row].shard)
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
    from u2s_datasets.sources import open_source

    known = d.read_manifest(folder)
    place, names = known["source"], known["configuration"]["kept_columns"]
    if known["source_kind"] != "dataset" and not Path(place).exists():
        raise SetupError(f"the source {place!r} is not in its place; put it back to edit its rows again")
    source = open_source(place, image_column=known["image_column"], split=known["split"], keep=names, allow=names)
    if not to_show and source.fingerprint() != known["source_content"]:
        raise SetupError(f"the source {place!r} was changed since the run; run `u2s anonymize` on it into a new folder")
    return source


def run_profile(folder: Path, **options: Any) -> Profile:
    """The steps of a run, as far as its names tell, with other options.

    Raises:
        SetupError: the run used a detector or an editor that has no short name here.
    """
    run = json.loads((folder / "run.json").read_text("utf-8"))
    used = run["configuration"]["anonymize"]
    if options.get("detectors") is None:
        names = [_name("detector", part["part"], catalog.DETECTORS) for part in used["inspect"]["detectors"]]
        options["detectors"] = names
    if options.get("editor") is None:
        options["editor"] = _name("editor", used["editor"]["part"], catalog.EDITORS)
    return profile(run["profile"], **options)


def _name(kind: str, part: str, entries: Mapping[str, catalog.Entry]) -> str:
    """The first short name of a class."""
    for name, (path, _) in entries.items():
        if path.endswith(f":{part}"):
            return name
    raise SetupError(f"the run's {kind} {part} has no short name; say {kind}{'s' * (kind == 'detector')}=…")


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
