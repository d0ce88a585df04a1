"""What curators do from the App: decide, edit again, audit, publish. The output first, then the database."""

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import u2s_datasets
from u2s_datasets import columns as c
from u2s_datasets.errors import SetupError
from u2s_datasets.executor.recorded_profile import run_profile
from u2s_datasets.parts import Box
from u2s_datasets.review import audit, decisions
from u2s_datasets.review.fiftyone_app import fields as f
from u2s_datasets.review.fiftyone_app import mirror
from u2s_datasets.review.fiftyone_app import samples as s
from u2s_datasets.review.reedit import CHUNK, reedit
from u2s_datasets.runs.decisions import DECISIONS, REEDIT, REJECT, read_decisions
from u2s_datasets.runs.manifest import locate_rows, read_manifest
from u2s_datasets.stages.profiles import Profile, build


def decide(dataset: Any, rows: Sequence[str], decision: str, by: str) -> int:
    """Record a decision about rows, in the output of the run and then in the database.

    Args:
        dataset: a FiftyOne dataset.
        rows: row ids.
        decision: one of `decisions.DECISIONS`.
        by: who decides.

    Returns:
        How many rows it was written for; withheld ones have nothing to decide about.

    Raises:
        SetupError: the dataset shows no run, or the decision or a row is unknown.
    """
    entries = decisions.decide(folder_of(dataset), dict.fromkeys(rows, decision), by)
    mirror.mirror_decisions(dataset, entries)
    return len(entries)


def edit_again(
    dataset: Any,
    rows: Sequence[str],
    by: str,
    chosen: Profile | None = None,
    boxes_field: str | None = None,
    **options: Any,
) -> Iterator[tuple[int, int]]:
    """Edit rows of the run again, and show them; see `review.reedit`. Gives (done, all) after each part.

    Args:
        dataset: a FiftyOne dataset that shows a run.
        rows: row ids.
        by: who asks for it.
        chosen, options: the steps, see `reedit`.
        boxes_field: a field of `Detections`, drawn in the App, whose boxes are hidden as well.
    """
    folder = folder_of(dataset)
    boxes = boxes_of(dataset, rows, boxes_field) if boxes_field else {}
    known = locate_rows(folder)
    ordered = sorted(set(rows), key=lambda row: (known[row].shard, known[row].index) if row in known else (0, 0))
    for start in range(0, len(ordered), CHUNK):
        part = ordered[start : start + CHUNK]
        reedit(folder, part, by=by, chosen=chosen, boxes=boxes, **options)
        mirror.mirror_rows(dataset, part)
        yield start + len(part), len(ordered)


def own_profile(dataset: Any) -> str:
    """The name of the profile of the run that a dataset shows."""
    return read_manifest(folder_of(dataset))["configuration"]["profile"]


def steps_of(dataset: Any, profile_name: str | None = None) -> Profile:
    """The steps to edit rows again with: the run's own, with all their settings, unless another profile is named.

    Raises:
        SetupError: the dataset shows no run, or its steps cannot be made again.
    """
    if profile_name is None or profile_name == own_profile(dataset):
        return run_profile(folder_of(dataset))
    return build(profile_name)


def sent_back(dataset: Any) -> list[str]:
    """The rows of the run that were sent back and not edited since."""
    entries = read_decisions(folder_of(dataset))
    return [row for row, entry in entries.items() if entry[c.REVIEW_DECISION] == REEDIT]


def boxes_of(dataset: Any, rows: Sequence[str], field: str) -> dict[str, list[Box]]:
    """Boxes that a user drew, on whichever slice: row id -> (x0, y0, x1, y1) in pixels.

    Raises:
        SetupError: the dataset has no such field of detections, or its images have no metadata.
    """
    import fiftyone as fo

    known = dataset.get_field_schema(embedded_doc_type=fo.Detections)
    if field not in known:
        expected = ", ".join(known) or "(the dataset has none)"
        raise SetupError(f"unknown field of Detections {field!r}; expected one of: {expected}")
    view = s.flat_samples(dataset, rows)
    boxes: dict[str, list[Box]] = {}
    names = [c.ROW_ID, f"{field}.detections.bounding_box", "metadata.width", "metadata.height"]
    for row, drawn, width, height in zip(*view.values(names), strict=True):
        for box in drawn or ():
            if width is None:
                raise SetupError(f"row {row} has boxes and no metadata; call compute_metadata() on the dataset")
            boxes.setdefault(row, []).append(tuple(f.pixels(box, (width, height))))  # type: ignore[arg-type]
    return boxes


def draw_audit(dataset: Any, n: int, seed: int, by: str) -> list[str]:
    """Draw a sample to audit and save it as the view "audit"; see `audit.draw`."""
    folder = folder_of(dataset)
    rows = audit.draw(folder, n, seed, by)
    entries = read_decisions(folder)
    mirror.mirror_decisions(dataset, {row: entries[row] for row in rows})
    view = dataset.match(s.F(c.ROW_ID).is_in(rows))
    dataset.save_view("audit", view, overwrite=True)
    return rows


def finish_audit(dataset: Any, reviewer: str, confidence: float) -> dict[str, Any]:
    """Write the audit's result, and take what was rejected out of the public shards; see `audit.finish`."""
    folder = folder_of(dataset)
    result = audit.finish(folder, reviewer, confidence)
    decisions.apply_reviews(folder)
    return result


def why_not_publish(dataset: Any) -> list[str]:
    """Reasons against publishing that a curator can remove; the library's own gate comes after them."""
    folder = mirror.run_folder(dataset)
    if folder is None:
        return ["this dataset shows no run of `u2s anonymize`; only a run's output is published from here"]
    reasons = []
    if waiting := decisions.unresolved(folder):
        reasons.append(f"unresolved rows, whose review was asked for and not given: {len(waiting)}")
    if (sample := audit.read_sample(folder)) is not None:
        reasons.append(f"an audit is under way: {len(sample['judged'])} of {sample['n']} rows are judged")
    return reasons


def publish(dataset: Any, repo_id: str, **options: Any) -> Any:
    """Publish the run through `u2s.push_to_hub`, once no reason against it is left that a curator can remove.

    Raises:
        SetupError: reasons are left; each is named.
    """
    if reasons := why_not_publish(dataset):
        raise SetupError(f"not published: {'; '.join(reasons)}")
    folder = folder_of(dataset)
    decisions.apply_reviews(folder)
    return u2s_datasets.push_to_hub(folder, repo_id, **options)


def folder_of(dataset: Any) -> Path:
    """The run that a dataset shows. Raises `SetupError` if it shows none, or the folder is gone."""
    folder = mirror.run_folder(dataset)
    if folder is None:
        raise SetupError(f"{dataset.name!r} shows no run; import one with `u2s fiftyone DIR` or u2s.to_fiftyone")
    read_manifest(folder)
    return folder


def progress_of(dataset: Any) -> Mapping[str, int]:
    """How far the review is: rows per decision, rows never asked for, and those of an audit under way."""
    rows, decisions = s.originals(dataset).values([c.STATUS, c.REVIEW_DECISION])
    found = dict.fromkeys((*DECISIONS, "not asked", c.WITHHELD), 0)
    for status, decision in zip(rows, decisions, strict=True):
        found[c.WITHHELD if status == c.WITHHELD and decision != REJECT else decision or "not asked"] += 1
    return found


@contextmanager
def lent_secrets(secrets: Mapping[str, str | None]) -> Iterator[None]:
    """Set these environment variables, those with a value and not set already, for the length of one call."""
    new = {name: value for name, value in secrets.items() if value and not os.environ.get(name)}
    os.environ.update(new)
    try:
        yield
    finally:
        for name in new:
            os.environ.pop(name, None)
