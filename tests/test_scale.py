"""The plan for millions of images is what its costs say."""

import json
from pathlib import Path

import pytest

from docs.scripts import write_scale_doc as scale

DOCS = Path(__file__).parents[1] / "docs"


@pytest.fixture(scope="module")
def costs() -> dict:
    return json.loads((DOCS / "scale_costs.json").read_text())


def test_the_page_holds_what_is_computed(costs, tmp_path):
    copy = tmp_path / "scale.md"
    copy.write_text((DOCS / "scale.md").read_text())
    scale.write(copy, costs)
    assert copy.read_text() == (DOCS / "scale.md").read_text()
    assert "| 1,000 million |" in copy.read_text()


def test_a_plan_by_hand():
    cpu = {"pipeline": 0.1, "write": 0.001, "start": 0, "bytes_in": 1e5, "bytes_out": 2e5, "bytes_private": 1e3}
    made = scale.plan({"machine": {"cores": 10, "efficiency": 0.8}, "cpu": cpu}, 10_000_000, models=False, hours=10)
    assert made["machines"] == 4  # a million seconds of one core are 27.8 hours of ten, and 34.7 at four fifths
    assert made["hours"] == pytest.approx(1e6 / 0.8 / 10 / 4 / 3600)
    assert made["runs"] == 10
    assert (made["terabytes_in"], made["terabytes_out"]) == (1.0, pytest.approx(2.01))
    assert made["limits"] == "pipeline"
    assert made["worker_dies"] == pytest.approx(32 * 0.1 / 0.8)


def test_a_slow_editor_limits_and_takes_the_machines(costs):
    slow = {**costs, "gpu": {**costs["gpu"], "editor_seconds": 100.0}}
    assert scale.plan(slow, 1_000_000, models=True)["limits"] == "anonymize"
    made = scale.plan(slow, 1_000_000, models=True)["by_stage"]
    assert made["anonymize"] > 10 * made["instruct"]
    talkative = {**costs, "gpu": {**costs["gpu"], "caption_tokens": 100_000}}
    assert scale.plan(talkative, 1_000_000, models=True)["limits"] == "inspect"


@pytest.mark.slow
def test_costs_are_measured(photos):
    found = scale.measure(str(photos), rows=3)
    assert found["pipeline"] > found["detect"] > 0 and found["bytes_in"] > 1000 and found["bytes_out"] > 1000
