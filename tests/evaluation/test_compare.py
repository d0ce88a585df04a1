"""Runs side by side: rows matched by source, Wilcoxon against scipy, Holm and Pareto by hand."""

import json
import re
import stat

import numpy as np
import pytest
from scipy.stats import wilcoxon

import u2s_datasets as u2s
from tests.helpers.fakes import Grid, Heads, RedSquares, portrait
from tests.helpers.html_page import Strict, parsed
from tests.helpers.report_run import build, mixed
from u2s_datasets import columns as c
from u2s_datasets.cli.main import main
from u2s_datasets.errors import SetupError
from u2s_datasets.evaluation.compare import beats, compare
from u2s_datasets.evaluation.evaluate import evaluate_run
from u2s_datasets.evaluation.report.plots import Point, tradeoff
from u2s_datasets.parts.metrics.intervals import holm, signed_rank
from u2s_datasets.stages.inspect import Inspect

SCORE = u2s.Score(inspect=Inspect(detectors=(RedSquares(),)), clip=Grid(), faces=Heads())


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Two ways to redact the same 8 people."""
    root = tmp_path_factory.mktemp("runs")
    (root / "photos").mkdir()
    for i in range(8):
        portrait((200, 10 * i, 250 - 30 * i), seed=i).save(root / f"photos/person-{i}.png")
    for editor in ("solid", "blur"):
        u2s.run(root / "photos", root / editor, detectors=["tests.helpers.fakes:RedSquares"], editor=editor, num_proc=1)
        evaluate_run(root / editor, score=SCORE)
    return root


def test_rows_are_matched_by_source_although_their_ids_differ(runs):
    made = compare([runs / "solid", runs / "blur"])
    ssim = next(d for d in made.differences if d.score == c.SSIM)
    means = {n: next(s.mean for s in r.scores if s.name == c.SSIM) for n, r in made.runs.items()}
    assert (ssim.first, ssim.second, ssim.n) == ("solid", "blur", 8)
    assert ssim.mean == pytest.approx(means["blur"] - means["solid"])
    assert ssim.low <= ssim.mean <= ssim.high and ssim.corrected >= ssim.p
    faces = next(d for d in made.differences if d.score == c.FACES_SAME)
    assert (faces.mean, faces.p) == (0.0, 1.0)
    assert "Differences on the rows that both have" in str(made)


def test_the_page_has_the_plot_and_is_private(runs, tmp_path, capsys):
    call = ["compare", str(runs / "solid"), str(runs / "blur"), "--out", str(tmp_path / "c.html"), "--json"]
    assert main([*call, "--x", c.SSIM, "--y", c.LPIPS]) == 0
    assert json.loads(capsys.readouterr().out)["tradeoff"]["points"] == []  # nobody measured lpips
    assert main([*call, "--x", c.SSIM, "--y", c.CLIP_RATIO]) == 0
    points = json.loads(capsys.readouterr().out)["tradeoff"]["points"]
    assert {p["run"] for p in points} == {"solid", "blur"} and any(p["front"] for p in points)
    page = (tmp_path / "c.html").read_text()
    assert isinstance(parsed(page), Strict) and "<polyline" in page and "up and to the right" in page.lower()
    assert stat.S_IMODE((tmp_path / "c.html").stat().st_mode) == 0o600


def test_what_cannot_be_compared(runs, tmp_path):
    with pytest.raises(SetupError, match="two or more"):
        compare([runs / "solid"])
    with pytest.raises(SetupError, match="unknown score 'beauty'"):
        compare([runs / "solid", runs / "blur"], x="beauty")
    with pytest.raises(SetupError, match="no row in common"):
        compare([runs / "solid", build(tmp_path / "other", mixed())])
    with pytest.raises(SetupError, match="the same folder twice"):
        compare([runs / "solid", runs / "solid"])
    for name in (tmp_path, tmp_path / "page.jpg", tmp_path / "nowhere/page.html"):
        assert main(["compare", str(runs / "solid"), str(runs / "blur"), "--out", str(name)]) == 2
    assert not (tmp_path / "nowhere").exists()


def test_the_plot_is_of_scores_that_tell_the_runs_apart(runs):
    made = compare([runs / "solid", runs / "blur"])
    assert (made.x, made.y) == (c.CLIP_SIMILARITY, c.SSIM)  # nobody has a face or a text in either
    alike = compare([runs / "solid", runs / "blur"], x=c.SSIM, y=c.FACES_SAME)
    page = alike.to_html()
    assert "All runs have the same faces_same" in page and "As use it counts the pixels that were kept" in page
    assert "no difference" in str(alike)


def test_names_of_runs_in_one_place_do_not_stand_on_each_other():
    points = [Point(f"run {i}", 0.5, 0.25, 0.5, -0.25, True) for i in range(3)]
    heights = re.findall(r'<text x="[\d.]+" y="([\d.]+)" text-anchor="start">run', tradeoff(points, "x", "y"))
    assert len(heights) == 3 and min(np.diff(sorted(map(float, heights)))) >= 12


def test_signed_rank_is_scipys_and_says_nothing_of_few():
    values = np.random.default_rng(0).normal(0.4, 1, 30)
    assert signed_rank(values) == pytest.approx(wilcoxon(values).pvalue, abs=1e-6)
    assert signed_rank(np.zeros(9)) == 1.0
    assert signed_rank(values[:5]) is None
    assert signed_rank(np.array([1.0] * 6)) < 0.05


def test_holm_and_pareto_by_hand():
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([0.6, 0.6]) == [1.0, 1.0] and holm([]) == []
    assert beats((2, 1), (1, 1)) and not beats((1, 1), (1, 1)) and not beats((2, 0), (1, 1))
