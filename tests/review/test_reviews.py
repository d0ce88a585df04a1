"""Reviews, audits and re-edits of a finished run: what was rejected never leaves, whatever is killed when."""

import hashlib
import json
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from scipy.stats import binom

import u2s_datasets as u2s
from tests.helpers.fakes import picture
from tests.helpers.run_files import seal_again
from u2s_datasets import columns as c
from u2s_datasets import images
from u2s_datasets.evaluation.evaluate import evaluate_run
from u2s_datasets.executor.recorded_profile import run_profile
from u2s_datasets.parts.metrics.intervals import upper_bound
from u2s_datasets.review import audit
from u2s_datasets.review.decisions import decide, unresolved
from u2s_datasets.review.fiftyone_app import forms
from u2s_datasets.review.reedit import reedit
from u2s_datasets.review.risk import residual_risk
from u2s_datasets.runs.change import Change
from u2s_datasets.runs.decisions import read_decisions
from u2s_datasets.runs.manifest import locate_rows
from u2s_datasets.runs.writer import open_finished
from u2s_datasets.stages.profiles import profile

RED = ["tests.helpers.fakes:RedSquares"]
QUICK = {"detectors": RED, "num_proc": 1, "shard_size": 5, "keep": ["label"]}


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> Path:
    """Twelve small pictures in two class folders, every third with a red square, one broken: a run in three shards."""
    home = tmp_path_factory.mktemp("reviews")
    for i in range(12):
        path = home / "photos" / ("zoe" if i % 2 else "anna") / f"{i:02d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        picture(red=i % 3 == 0, seed=i).save(path)
    (home / "photos/zoe/11.png").write_bytes(b"no image")
    u2s.run(home / "photos", home / "out", **QUICK)
    return home / "out"


@pytest.fixture
def run(finished, tmp_path) -> Path:
    """A copy of that run."""
    return Path(shutil.copytree(finished, tmp_path / "out"))


def public(run: Path) -> dict[str, dict]:
    return {row[c.ROW_ID]: row for p in sorted((run / "data").glob("*")) for row in pq.read_table(p).to_pylist()}


def private(run: Path) -> dict[str, dict]:
    return {r[c.ROW_ID]: r for p in sorted((run / "private/rows").glob("*")) for r in pq.read_table(p).to_pylist()}


def digests(run: Path) -> dict[str, str]:
    files = [p for p in run.rglob("*") if p.is_file() and p.name not in ("lock", "report.html")]
    return {str(p.relative_to(run)): hashlib.sha256(p.read_bytes()).hexdigest() for p in files}


def shown(run: Path) -> list[str]:
    return [row for row, place in locate_rows(run).items() if place.status != c.WITHHELD]


def test_decisions_are_written_beside_the_run_and_the_unresolved_are_named(run):
    first, second, third, *_ = shown(run)
    decide(run, {first: "approve", second: "pending", third: "re-edit"}, by="ada")
    entry = read_decisions(run)[first]
    assert (entry["review_decision"], entry["review_by"]) == ("approve", "ada") and entry["review_at"][:2] == "20"
    assert unresolved(run) == [second, third]
    decide(run, {second: "approve", third: "reject"}, by="ada")
    assert unresolved(run) == []
    assert (run / "private/reviews.json").stat().st_mode & 0o777 == 0o600


def test_a_withheld_row_has_nothing_to_approve(run):
    withheld = next(row for row, place in locate_rows(run).items() if place.status == c.WITHHELD)
    assert decide(run, {withheld: "approve"}, by="ada") == {}
    assert read_decisions(run) == {}


def test_what_cannot_be_decided_is_refused(run, tmp_path):
    row = shown(run)[0]
    with pytest.raises(u2s.SetupError, match="unknown decision 'perhaps'; expected one of: approve"):
        decide(run, {row: "perhaps"}, by="ada")
    with pytest.raises(u2s.SetupError, match="unknown row 'x'"):
        decide(run, {"x": "approve"}, by="ada")
    with pytest.raises(u2s.SetupError, match="give the name of the reviewer"):
        decide(run, {row: "approve"}, by=" ")
    with pytest.raises(u2s.SetupError, match="no finished run in"):
        decide(tmp_path / "nothing", {row: "approve"}, by="ada")


def test_rejected_rows_leave_the_public_shards_and_all_counts_agree(run):
    before, rejected = public(run), shown(run)[1]
    decide(run, {rejected: "reject"}, by="ada")
    facts = u2s.apply_reviews(run)
    assert set(public(run)) == set(before) - {rejected}
    assert {row: value for row, value in before.items() if row != rejected} == public(run)
    assert private(run)[rejected][c.STATUS] == c.WITHHELD and private(run)[rejected][c.REASON] == "rejected"
    assert facts["reasons"]["rejected"] == 1 and facts["rows"] == 12
    assert facts["safe"] + facts["anonymized"] + facts["withheld"] == 12
    assert u2s.report(run).withheld == facts["withheld"]
    assert rejected not in (run / "report.html").read_text()


def test_a_review_of_an_unverified_run_of_an_earlier_version_does_not_make_it_a_verified_one(finished, tmp_path):
    """Its manifest counts no unverified rows, and binds no file."""
    u2s.run(finished.parent / "photos", tmp_path / "old", verify=False, **QUICK)
    path = tmp_path / "old/private/manifest.json"
    old = json.loads(path.read_text())
    del old["bound"]
    for shard in old["shards"]:
        del shard["unverified"]
    path.write_text(json.dumps(old))
    before = shown(tmp_path / "old")
    decide(tmp_path / "old", {before[0]: "reject"}, by="Ada")
    facts = json.loads((tmp_path / "old/run.json").read_text())
    assert (facts["verified"], facts["unverified"]) == (False, len(before) - 1)


def test_applying_twice_changes_nothing_and_a_resumed_run_keeps_it(run, finished):
    decide(run, {shown(run)[0]: "reject"}, by="ada")
    u2s.apply_reviews(run)
    once = digests(run)
    u2s.apply_reviews(run)
    assert digests(run) == once
    u2s.run(finished.parent / "photos", run, **QUICK)
    assert {n: h for n, h in digests(run).items() if n != "run.json"} == {
        n: h for n, h in once.items() if n != "run.json"
    }


def test_a_shard_without_a_public_row_has_no_public_file(run):
    first = {row: "reject" for row, place in locate_rows(run).items() if place.shard == 0}
    decide(run, first, by="ada")
    u2s.apply_reviews(run)
    assert not (run / "data/part-00000.parquet").exists()
    assert u2s.report(run).rows == 12


def test_a_change_that_was_decided_is_finished_and_one_that_was_not_is_dropped(run):
    rejected = shown(run)[0]
    values = {rejected: {c.STATUS: c.WITHHELD, c.REASON: "rejected", c.NOTE: "rejected"}}
    before = digests(run)
    with open_finished(run) as output:
        Change(output).replace_rows(values)  # killed here: nothing was decided
    assert (run / "private/next.part").exists()
    with open_finished(run):
        assert digests(run) == before
    with open_finished(run) as output:
        change = Change(output)
        change.replace_rows(values)
        change.decide()  # killed here: it was
    (run / "private/next/data-part-00000.parquet").replace(run / "data/part-00000.parquet")  # or after the first file
    with open_finished(run):
        assert rejected not in public(run) and not (run / "private/next").exists()
    assert u2s.report(run).rows == 12


@pytest.mark.slow
def test_kills_at_any_moment_lose_nothing(run, tmp_path):
    """`kill -9` of `apply_reviews` at random moments; afterwards the same call ends as if nothing had been."""
    decide(run, dict.fromkeys(shown(run)[::2], "reject"), by="ada")
    whole = Path(shutil.copytree(run, tmp_path / "whole"))
    code = "import sys, u2s_datasets as u2s; print('ready', flush=True); u2s.apply_reviews(sys.argv[1])"

    def apply(folder: Path, kill_after: float | None = None) -> tuple[int, float]:
        with subprocess.Popen([sys.executable, "-c", code, str(folder)], stdout=subprocess.PIPE) as process:
            assert process.stdout.readline() == b"ready\n"
            began = time.monotonic()
            if kill_after is not None:
                time.sleep(kill_after)
                process.send_signal(signal.SIGKILL)
            return process.wait(), time.monotonic() - began

    ended, seconds = apply(whole)
    assert ended == 0
    moments = random.Random(0)
    for _ in range(6):
        apply(run, kill_after=moments.uniform(0.4, 1.0) * seconds)
    assert apply(run)[0] == 0
    assert digests(run) == digests(whole)


def test_an_approval_is_asked_for_again_where_its_shard_is_made_anew(run, finished):
    first, second = [row for row, place in locate_rows(run).items() if place.shard == 0][:2]
    decide(run, {first: "approve", second: "reject"}, by="ada")
    (run / "data/part-00000.parquet").unlink()
    u2s.run(finished.parent / "photos", run, **QUICK)
    words = {row: entry["review_decision"] for row, entry in read_decisions(run).items()}
    assert words == {first: "pending", second: "reject"}


@pytest.mark.parametrize("applied", [True, False])
def test_a_rejected_row_stays_withheld_where_its_shard_is_made_anew(run, finished, tmp_path, applied):
    decide(run, {shown(run)[0]: "reject"}, by="ada")
    once = Path(shutil.copytree(run, tmp_path / "once"))
    u2s.apply_reviews(once)
    if applied:
        u2s.apply_reviews(run)
    (run / "private/rows/part-00000.parquet").unlink()
    assert u2s.run(finished.parent / "photos", run, **QUICK)["reasons"]["rejected"] == 1
    assert {n: h for n, h in digests(run).items() if n != "run.json"} == {
        n: h for n, h in digests(once).items() if n != "run.json"
    }


def test_an_evaluation_goes_when_its_rows_change(run):
    evaluate_run(run, score=u2s.Score(inspect=None))
    decide(run, {shown(run)[0]: "reject"}, by="ada")
    u2s.apply_reviews(run)
    assert not [*run.glob("eval.*"), *run.glob("private/eval.*")]
    assert u2s.report(run).withheld == 2


def test_editing_again_hides_drawn_boxes_and_waits_for_a_review(run):
    row = next(row for row, place in locate_rows(run).items() if place.status == c.SAFE)
    before = images.decode(public(run)[row][c.ANONYMIZED_IMAGE]["bytes"]).pixels
    statuses = reedit(run, [row], by="ada", boxes={row: [(10, 10, 40, 40)]}, detectors=RED, seed=3)
    assert statuses == {row: c.ANONYMIZED} and unresolved(run) == [row]
    after = images.decode(public(run)[row][c.ANONYMIZED_IMAGE]["bytes"]).pixels
    assert before.crop((12, 12, 38, 38)).tobytes() != after.crop((12, 12, 38, 38)).tobytes()
    assert before.crop((60, 0, 96, 64)).tobytes() == after.crop((60, 0, 96, 64)).tobytes()
    assert public(run)[row]["label"] in (0, 1)
    assert u2s.report(run).rows == 12


def test_editing_again_keeps_what_was_found_before_whatever_the_detectors_find_now(run):
    row = next(row for row, place in locate_rows(run).items() if place.status == c.ANONYMIZED)
    before = private(run)[row]
    assert reedit(run, [row], by="ada", chosen=profile(detectors=["faces"])) == {row: c.ANONYMIZED}
    after = private(run)[row]
    assert after[c.PRIVACY_FLAG] and after[c.PRIVACY_REVIEW] == before[c.PRIVACY_REVIEW]
    shown_now = images.decode(public(run)[row][c.ANONYMIZED_IMAGE]["bytes"]).pixels
    assert (255, 0, 0) not in shown_now.get_flattened_data()


def test_a_row_whose_inspection_failed_stays_flagged_and_can_be_edited_by_hand(tmp_path):
    (tmp_path / "photos").mkdir()
    picture(corner=(0, 255, 0)).save(tmp_path / "photos/a.png")  # the detector raises
    u2s.run(tmp_path / "photos", tmp_path / "out", detectors=["tests.helpers.fakes:Touchy"], num_proc=1)
    (row,) = private(tmp_path / "out")
    steps = profile(detectors=RED)  # and this one finds nothing
    assert reedit(tmp_path / "out", [row], by="ada", chosen=steps) == {row: c.WITHHELD}
    drawn = {row: [(10, 10, 40, 40)]}
    assert reedit(tmp_path / "out", [row], by="ada", chosen=steps, boxes=drawn) == {row: c.ANONYMIZED}


def test_what_a_curator_drew_is_hidden_by_every_later_edit(run):
    row = next(row for row, place in locate_rows(run).items() if place.status == c.SAFE)
    original = images.decode(public(run)[row][c.ANONYMIZED_IMAGE]["bytes"]).pixels.crop((12, 12, 38, 38))
    reedit(run, [row], by="ada", boxes={row: [(10, 10, 40, 40)]}, detectors=RED)
    assert reedit(run, [row], by="ada", editor="solid", detectors=RED) == {row: c.ANONYMIZED}
    later = images.decode(public(run)[row][c.ANONYMIZED_IMAGE]["bytes"]).pixels.crop((12, 12, 38, 38))
    assert len(set(later.get_flattened_data())) == 1 < len(set(original.get_flattened_data()))


def test_a_row_that_was_withheld_can_come_back_with_its_kept_columns(run):
    row = shown(run)[0]
    label = public(run)[row]["label"]
    decide(run, {row: "reject"}, by="ada")
    u2s.apply_reviews(run)
    assert reedit(run, [row], by="ada", detectors=RED, editor="solid")[row] != c.WITHHELD
    assert public(run)[row]["label"] == label and unresolved(run) == [row]


def test_a_row_that_cannot_be_made_safe_is_withheld(run):
    row = next(row for row, place in locate_rows(run).items() if place.status == c.ANONYMIZED)
    steps = profile(detectors=RED, editor="tests.helpers.fakes:Broken")
    assert reedit(run, [row], by="ada", chosen=steps) == {row: c.WITHHELD}
    assert row not in public(run) and unresolved(run) == []


def test_editing_again_needs_the_same_source_and_a_look_at_the_output(run, tmp_path):
    row = shown(run)[0]
    with pytest.raises(u2s.SetupError, match="verify=False"):
        reedit(run, [row], by="ada", verify=False, detectors=["tests.helpers.fakes:RedSquares"])
    with pytest.raises(u2s.SetupError, match="the run's detector RedSquares has no short name; give detectors="):
        reedit(run, [row], by="ada")
    manifest = run / "private/manifest.json"
    manifest.write_text(manifest.read_text().replace("photos", "elsewhere"))
    with pytest.raises(u2s.SetupError, match="not in its place"):
        reedit(run, [row], by="ada", detectors=RED)


def test_editing_again_works_as_the_run_did_in_every_setting(finished, tmp_path):
    own = {"format": "webp", "editor": "pixelate", "editor_options": {"cells": 2}, "seed": 5}
    u2s.run(finished.parent / "photos", tmp_path / "out", **QUICK, **own)
    manifest = tmp_path / "out/private/manifest.json"
    manifest.write_text(manifest.read_text().replace("threshold=0.2)", "threshold=0.05)"))
    seal_again(tmp_path / "out")
    steps = run_profile(tmp_path / "out", detectors=RED)
    anonymize = steps.anonymize
    assert (anonymize.format, anonymize.editor.cells, anonymize.seed) == ("webp", 2, 5)
    assert steps.inspect.threshold == 0.05 and steps.score.inspect is steps.inspect
    assert forms.build_profile(steps, {"attempts": 2}).inspect.threshold == 0.05
    row = next(row for row, place in locate_rows(tmp_path / "out").items() if place.status == c.ANONYMIZED)
    reedit(tmp_path / "out", [row], by="ada", detectors=RED, seed=7)
    assert images.decode(public(tmp_path / "out")[row][c.ANONYMIZED_IMAGE]["bytes"]).format == "WEBP"


REDACT = "Redact(method='inpaint', cells=4, noise=None, margin=0.15, mask='shape')"


@pytest.mark.parametrize(
    ("old", "new", "options", "words"),
    [
        ("threshold=0.2)", "threshold=0.05)", {"threshold": 0.5}, r"threshold=0\.5: a re-edit keeps the run's own"),
        ("[]", "[]", {"detectors": [*RED, "faces"]}, "the run's detectors were RedSquares; give det"),
        ("seed=0, prior", "prior_seed=0, prior", {}, "the run's steps cannot be made again"),
        ("Redact(", "Mine(", {}, "the run's editor Mine has no short name; give editor="),
        (REDACT, "Deface(command=('rm', '{input}'))", {}, r"editor\.command was \('rm', '{input}'\) in the run"),
    ],
)
def test_what_cannot_be_done_as_in_the_run_is_named_with_the_remedy(run, old, new, options, words):
    manifest = run / "private/manifest.json"
    assert old in manifest.read_text()
    manifest.write_text(manifest.read_text().replace(old, new))
    with pytest.raises(u2s.SetupError, match=rf"{words}.*pass a profile of your own, as chosen="):
        reedit(run, shown(run)[:1], by="ada", **{"detectors": RED, **options})


def test_the_bound_is_the_rate_at_which_so_few_leaks_are_that_unlikely():
    for n, leaks, confidence in ((100, 0, 0.95), (100, 3, 0.95), (400, 1, 0.99), (5, 5, 0.9)):
        bound = upper_bound(n, leaks, confidence)
        assert bound == 1 if leaks == n else binom.cdf(leaks, n, bound) == pytest.approx(1 - confidence)
    assert upper_bound(100, 0) == pytest.approx(1 - 0.05 ** (1 / 100))
    with pytest.raises(u2s.SetupError, match="impossible audit: n=10, leaks=11"):
        upper_bound(10, 11)


def test_an_audit_from_the_draw_to_the_bound(run):
    drawn = audit.draw(run, 6, seed=4, by="ada")
    assert len(set(drawn)) == 6 and unresolved(run) == [row for row in locate_rows(run) if row in drawn]
    assert audit.draw(run, 6, seed=4, by="ada") == drawn
    with pytest.raises(u2s.SetupError, match="is under way"):
        audit.draw(run, 5, seed=4, by="ada")
    decide(run, dict.fromkeys(drawn[:5], "approve"), by="ada")
    with pytest.raises(u2s.SetupError, match="1 of 6 drawn rows are not judged yet"):
        audit.finish(run, "ada")
    decide(run, {drawn[5]: "reject"}, by="ada")
    decide(run, {drawn[5]: "approve"}, by="ada")  # once a leak, always one
    result = audit.finish(run, "ada", confidence=0.9)
    assert result == json.loads((run / "private/audit.json").read_text())
    assert {k: result[k] for k in ("n", "leaks", "confidence", "reviewer", "seed")} == {
        "n": 6,
        "leaks": 1,
        "confidence": 0.9,
        "reviewer": "ada",
        "seed": 4,
    }
    assert binom.cdf(1, 6, result["upper_bound"]) == pytest.approx(0.1)


def test_a_judgement_that_is_corrected_to_a_leak_counts_as_one(run):
    drawn = audit.draw(run, 3, seed=0, by="ada")
    decide(run, dict.fromkeys(drawn, "approve"), by="ada")
    decide(run, {drawn[0]: "reject"}, by="ada")
    assert audit.finish(run, "ada")["leaks"] == 1


def test_the_draw_depends_on_the_seed_alone_and_takes_publishable_rows_only(run, tmp_path):
    twin = Path(shutil.copytree(run, tmp_path / "twin"))
    assert audit.draw(run, 4, seed=1, by="ada") == audit.draw(twin, 4, seed=1, by="bob")
    audit.drop(run)
    assert audit.draw(run, 4, seed=2, by="ada") != audit.read_sample(twin)["drawn"]
    audit.drop(run)
    decide(run, {shown(run)[0]: "reject"}, by="ada")
    with pytest.raises(u2s.SetupError, match="n=11 of 10 publishable rows"):
        audit.draw(run, 11, seed=0, by="ada")


def test_an_edit_after_an_audit_ends_its_result(run):
    drawn = audit.draw(run, 3, seed=0, by="ada")
    decide(run, dict.fromkeys(drawn, "approve"), by="ada")
    audit.finish(run, "ada")
    reedit(run, [drawn[0]], by="ada", detectors=RED)
    assert audit.read_result(run) is None


def test_the_riskiest_rows_come_first():
    proven = {
        c.STATUS: c.ANONYMIZED,
        c.PROVENANCE: json.dumps({"verified": True, "attempts": [1]}),
        c.PRIVACY_SCORE: 0.4,
    }
    assert residual_risk({c.STATUS: c.WITHHELD}) is None
    assert residual_risk(proven) == pytest.approx(0.2)
    assert residual_risk(proven | {c.TEXT_SIMILARITY: 0.7}) == pytest.approx(0.7)
    assert residual_risk(proven | {c.PROVENANCE: json.dumps({"verified": False})}) == pytest.approx(0.9)
    assert residual_risk(proven | {c.RESIDUAL_TEXT: 1}) == 1
