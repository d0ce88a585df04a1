"""docs/metrics.md says what the code says."""

from pathlib import Path

from docs.scripts import write_metrics_doc as reference
from u2s_datasets import columns as c
from u2s_datasets.parts.metrics.definitions import SPECS

DOCUMENT = Path(__file__).parent.parent / "docs" / "metrics.md"


def test_the_document_is_current():
    again = "run: python docs/scripts/write_metrics_doc.py > docs/metrics.md"
    assert DOCUMENT.read_text(encoding="utf-8") == reference.markdown(), again


def test_every_score_is_explained():
    assert {e.name for e in reference.ENTRIES} >= {*c.SCORE}
    assert all(e.better in (SPECS[e.name].better, "–") for e in reference.ENTRIES if e.name in SPECS)


def test_every_formula_names_its_range_and_its_direction():
    for entry in reference.ENTRIES:
        if entry.function is not None:
            words = reference.described(entry.function)
            assert "range" in words or "from 0" in words or "[-1, 1]" in words, entry.name
            assert "higher" in words or "lower" in words, entry.name
            assert "Args:" not in words and len(words) > 100, entry.name
