"""What a run did to a set of images, in numbers: for a terminal, for a card, for two pages.

The counts must add up, or there is no report (law 2).
"""

import dataclasses
import json
from pathlib import Path
from typing import Any

from u2s_datasets import columns as c
from u2s_datasets.errors import U2SError
from u2s_datasets.evaluation.report.dataset_rows import DatasetRows
from u2s_datasets.evaluation.report.inspection import read_inspection
from u2s_datasets.evaluation.report.layout import write_page
from u2s_datasets.evaluation.report.private_page import private_page
from u2s_datasets.evaluation.report.public_page import public_page
from u2s_datasets.evaluation.report.run_rows import RunRows, adding_up
from u2s_datasets.evaluation.report.summary import Original, Summary, summarize
from u2s_datasets.evaluation.report.tables import html_table, join_tables, markdown_table, report_tables, text_table
from u2s_datasets.parts.metrics.definitions import FEW
from u2s_datasets.runs.files import PRIVATE_MODE
from u2s_datasets.runs.layout import Layout
from u2s_datasets.runs.manifest import read_manifest
from u2s_datasets.runs.origin import find_origin
from u2s_datasets.runs.seal import check_sealed
from u2s_datasets.runs.writer import Output, finish_change, open_finished

_RUN = ("skipped", "kept_emptied", "names_not_checked", "inspected_criteria", "not_inspected")


@dataclasses.dataclass(frozen=True)
class Report(Summary):
    """The numbers of one set. Printed, it is a table with everything; `to_*` give what may be published."""

    def __str__(self) -> str:
        return join_tables(report_tables(self, private=True), text_table)

    def _repr_html_(self) -> str:
        return join_tables(report_tables(self, private=True), html_table, "")

    def to_markdown(self, private: bool = False) -> str:
        """The tables in Markdown.

        Args:
            private: also what was found per category, each score's worst value, and figures of fewer than 5 rows.
        """
        return join_tables(report_tables(self, private), markdown_table) + "\n"

    def to_json(self, private: bool = False) -> str:
        """The numbers as JSON; see `to_markdown` for `private`."""
        plain: dict[str, Any] = {
            "rows": self.rows,
            **(self.statuses or dict.fromkeys(c.STATUSES)),
            "reasons": self.reasons,
            "unverified": self.unverified,
        }
        if private:
            plain["detections"] = {k: {"items": n, "images": images} for k, (n, images) in self.detections.items()}
        plain["scores"] = {
            s.name: s.figures(private) | ({"why": s.why} if private and s.why else {}) for s in self.scores
        }
        if self.race and private:
            plain["race_entropy"] = {when: dataclasses.asdict(made) for when, made in self.race.items()}
        elif self.race and all(made.n >= FEW for made in self.race.values()):
            plain["race_entropy"] = {
                when: {"value": None if made.value is None else round(made.value, 2), "n": made.n}
                for when, made in self.race.items()
            }
        if private and self.by_category:
            plain["by_category"] = [
                {"category": category, "score": name, "n": n, "mean": total / n}
                for (category, name), (n, total) in self.by_category.items()
            ]
        plain |= self.beyond.get(private, {}) | {k: self.run[k] for k in _RUN if k in self.run}
        return json.dumps(plain, indent=2, ensure_ascii=False) + "\n"

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
            write_page(Path(path), page, private)
        return page


def report(data: Any, over: str = "all", paper_compat: bool = False, vispr: str | Path | None = None) -> Report:
    """The report of a dataset that went through the steps, or of the folder of a finished run.

    Args:
        data: a `datasets.Dataset`; columns may be absent. Or the folder, as a string or a path.
        over: "all", or "flagged" to leave the rows that were not flagged out of every score.
        paper_compat: the paper's definitions, where they differ over a set; see docs/metrics.md.
        vispr: a result of `u2s vispr`, of the profile that inspected these rows; adds its table and curves.

    Raises:
        U2SError: rows in are not safe + anonymized + withheld, or a folder's files disagree about them.
        SetupError: `data` is neither, a file of the folder is missing or was changed by hand, or `vispr` is not such a
            result.
    """
    if isinstance(data, (str, Path)):
        root = Path(data).expanduser()
        finish_change(root)
        if Layout(root).manifest.exists():
            check_sealed(root, read_manifest(root))
    return count(data, over, paper_compat, vispr)


def count(data: Any, over: str = "all", paper_compat: bool = False, vispr: str | Path | None = None) -> Report:
    """As `report`, whether the folder's files are those that were written or not; the counts must agree."""
    known = {} if vispr is None else {"inspection": read_inspection(vispr)}
    rows = RunRows(Path(data)) if isinstance(data, (str, Path)) else DatasetRows(data)
    names = (
        c.STATUS,
        c.REASON,
        c.NOTE,
        c.PROVENANCE,
        c.PRIVACY_FLAG,
        c.PRIVACY_REVIEW,
        *c.SCORE,
        *c.RACE,
        c.UNMEASURED,
    )
    summary = summarize(rows.batches(names), rows, over, paper_compat)
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
        original: gives the upright original of a `source`; None or a `RowError` leaves a placeholder.
        max_images: pictures in the public gallery.
        seed: seed of the gallery's sample.
    """
    made = count(output.root)
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
    with open_finished(root) as output:
        write_reports(output, original=None if source is None else source.original)
