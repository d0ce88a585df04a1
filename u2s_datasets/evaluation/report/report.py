"""What a run did to a set of images, in numbers: for a terminal, for a card, for two pages.

The counts must add up, or there is no report (law 2).
"""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from u2s_datasets import columns as c
from u2s_datasets.errors import U2SError
from u2s_datasets.evaluation.report.dataset_rows import DatasetRows
from u2s_datasets.evaluation.report.evaluation_tables import evaluation_tables
from u2s_datasets.evaluation.report.inspection import read_inspection
from u2s_datasets.evaluation.report.missing import UNMEASURED
from u2s_datasets.evaluation.report.page import write_whole
from u2s_datasets.evaluation.report.private_page import private_page
from u2s_datasets.evaluation.report.public_page import public_page
from u2s_datasets.evaluation.report.run_rows import RunRows, adding_up
from u2s_datasets.evaluation.report.summary import Original, Summary, summarize
from u2s_datasets.evaluation.report.tables import Table, html_table, markdown_table, tables, text_table
from u2s_datasets.parts.metrics.definitions import FEW
from u2s_datasets.runs.files import PRIVATE_MODE
from u2s_datasets.runs.manifest import read_manifest
from u2s_datasets.runs.origin import find_origin
from u2s_datasets.runs.writer import Output

_RUN = ("skipped", "verified", "inspected_criteria", "not_inspected")


@dataclass(frozen=True)
class Report(Summary):
    """The numbers of one set. Printed, it is a table with everything; `to_*` give what may be published."""

    def __str__(self) -> str:
        return "\n\n".join(map(text_table, self._tables(private=True)))

    def _repr_html_(self) -> str:
        return "".join(map(html_table, self._tables(private=True)))

    def to_markdown(self, private: bool = False) -> str:
        """The tables in Markdown.

        Args:
            private: also what was found per category, each score's worst value, and figures of fewer than 5 rows.
        """
        return "\n\n".join(map(markdown_table, self._tables(private))) + "\n"

    def to_json(self, private: bool = False) -> str:
        """The numbers as JSON; see `to_markdown` for `private`."""
        found = {k: {"items": items, "images": images} for k, (items, images) in self.detections.items()}
        plain = {
            "rows": self.rows,
            **(self.statuses or dict.fromkeys(c.STATUSES)),
            "reasons": self.reasons,
            **({"detections": found} if private else {}),
            "scores": {s.name: s.figures(private) | ({"why": s.why} if private and s.why else {}) for s in self.scores},
            **self._set_level(private),
            **self.beyond.get(private, {}),
            **{k: self.run[k] for k in _RUN if k in self.run},
        }
        return json.dumps(plain, indent=2, ensure_ascii=False) + "\n"

    def _tables(self, private: bool) -> list[Table]:
        return [*tables(self, private), *evaluation_tables(self.beyond.get(private, {}), private)]

    def _set_level(self, private: bool) -> dict[str, Any]:
        """What is known of the set beyond its rows' scores."""
        found: dict[str, Any] = {}
        if self.race and (private or all(made.n >= FEW for made in self.race.values())):
            found["race_entropy"] = {
                when: dataclasses.asdict(made) if private else {"value": rounded(made.value), "n": made.n}
                for when, made in self.race.items()
            }
        if private and self.by_category:
            found["by_category"] = [
                {"category": category, "score": name, "n": n, "mean": total / n}
                for (category, name), (n, total) in self.by_category.items()
            ]
        return found

    def to_html(
        self,
        path: str | Path | None = None,
        private: bool = False,
        original: Original | None = None,
        max_images: int = 48,
        seed: int = 0,
    ) -> str:
        """One self-contained page.

        Args:
            path: where to write it too, whole or not at all; mode 0600 if private.
            private: the page with originals, file names and single rows, instead of the one for anyone.
            original: for a folder, gives the originals of the private page; a dataset has its own.
            max_images: pictures in the public gallery.
            seed: seed of the gallery's sample.
        """
        page = private_page(self, original) if private else public_page(self, max_images, seed)
        if path is not None:
            write_whole(Path(path), page, Path(path).parent, private)
        return page


def rounded(value: float | None) -> float | None:
    """Two digits, for anyone."""
    return None if value is None else round(value, 2)


def report(data: Any, over: str = "all", paper_compat: bool = False, vispr: str | Path | None = None) -> Report:
    """The report of a dataset that went through the steps, or of the folder of a finished run.

    Args:
        data: a `datasets.Dataset`; columns may be absent. Or the folder, as a string or a path.
        over: "all", or "flagged" to leave the rows that were not flagged out of every score.
        paper_compat: the paper's definitions, where they differ over a set; see docs/metrics.md.
        vispr: a result of `u2s vispr`, of the profile that inspected these rows; its table and curves come along.

    Raises:
        U2SError: rows in are not safe + anonymized + withheld, or a folder's files disagree about them.
        SetupError: `data` is neither, or `vispr` is no such result.
    """
    known = {} if vispr is None else {"inspection": read_inspection(vispr)}
    rows = RunRows(Path(data)) if isinstance(data, (str, Path)) else DatasetRows(data)
    read = (c.STATUS, c.REASON, c.NOTE, c.PRIVACY_FLAG, c.PRIVACY_REVIEW, *c.SCORE, *c.RACE, UNMEASURED)
    summary = summarize(rows.batches(read), rows, over, paper_compat)
    beyond = {private: summary.beyond.get(private, {}) | known for private in (True, False)}
    made = Report(**vars(summary) | {"beyond": beyond})
    if made.statuses and made.rows != sum(made.statuses.values()):
        raise U2SError(f"the rows do not add up: {adding_up(made.rows, made.statuses)}")
    rows.check(made)
    return made


def write_reports(output: Output, original: Original | None = None, max_images: int = 48, seed: int = 0) -> None:
    """Write `report.html`, for anyone, and `private/report.html`, for the owner, each whole or not at all.

    Args:
        output: a finished run, locked.
        original: gives the upright original of a `source`; none or a `RowError` leaves a placeholder.
        max_images: pictures in the public gallery.
        seed: seed of the gallery's sample.
    """
    made = report(output.root)
    public = made.to_html(max_images=max_images, seed=seed)
    private = made.to_html(private=True, original=original)
    output.write(output.private / "report.html", private.encode(), PRIVATE_MODE)
    output.write(output.root / "report.html", public.encode())


def rewrite_reports(out: str | Path) -> None:
    """Write both pages of a finished run again; originals are shown if the source is still in its place.

    Raises:
        SetupError: the folder holds no finished run.
    """
    root = Path(out).expanduser()
    source = find_origin(read_manifest(root), to_show=True)
    with Output(root) as output:
        write_reports(output, original=None if source is None else source.original)
