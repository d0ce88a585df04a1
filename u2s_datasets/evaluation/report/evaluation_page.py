"""What an evaluation adds to both pages: the attack, the controls, and how reliable the inspection is."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from u2s_datasets.evaluation.report.evaluation_tables import evaluation_tables
from u2s_datasets.evaluation.report.inspection import inspection_plot, inspection_tables
from u2s_datasets.evaluation.report.page import section
from u2s_datasets.evaluation.report.tables import html_table

_ATTACK = (
    "An attacker who holds all originals looks for the one that an anonymized image was made from. Found at chance "
    "is as safe as it can be. Controls: untouched originals must find themselves, and a metric must tell an "
    "untouched pair from a pair that does not belong together."
)
_RELIABLE = (
    "No inspection finds everything. This is how often the same inspection was right on VISPR, a public set of "
    "photos that people have labelled; on other photos it may do better or worse."
)


def evaluation_sections(found: Mapping[str, Any], private: bool) -> Iterator[str]:
    """The sections of what `Evaluation.plain` gave; none where nothing was evaluated."""
    inspection = found.get("inspection")
    tables = "".join(map(html_table, evaluation_tables({k: v for k, v in found.items() if k != "inspection"}, private)))
    yield section("Attack and controls", f'<p class="quiet">{_ATTACK}</p>{tables}' if tables else "")
    if inspection:
        tables = "".join(map(html_table, inspection_tables(inspection)))
        words = f'<p class="quiet">{_RELIABLE}</p>'
        yield section("How reliable the inspection is", f"{words}{inspection_plot(inspection)}{tables}")
