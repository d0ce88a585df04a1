"""Law 4, prove it: the output is inspected again; on residue harder, then redaction, then withheld."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

import u2s_datasets as u2s
from tests.helpers.fakes import Broken, ByPixels, Persistent, RedSquares, Rewriter, picture
from tests.helpers.published_run import ABOUT, anonymized
from tests.helpers.run_files import QUICK, private_rows, public_rows, seal_again, unseal
from tests.helpers.steps import RED, anonymize, pixels
from u2s_datasets import columns as c
from u2s_datasets import images
from u2s_datasets.cli.main import main
from u2s_datasets.evaluation.evaluate import evaluate_run
from u2s_datasets.evaluation.report.report import rewrite_reports
from u2s_datasets.publish.run_split import RunSplit
from u2s_datasets.review import audit
from u2s_datasets.review.decisions import decide
from u2s_datasets.runs.audit import checked_audit
from u2s_datasets.stages.inspect import Inspect


def test_faces_and_words_are_gone_and_things_are_flagged_as_they_should(demo):
    by_source = {row[c.SOURCE]: row for row in private_rows(demo)}
    assert by_source["people/astronaut.jpg"][c.STATUS] == c.ANONYMIZED
    assert by_source["papers/page_scan.png"][c.STATUS] == c.ANONYMIZED
    assert by_source["things/brick.png"][c.STATUS] == c.SAFE
    published = {row[c.ROW_ID]: row[c.ANONYMIZED_IMAGE]["bytes"] for row in public_rows(demo)}
    face = images.decode(published[by_source["people/astronaut.jpg"][c.ROW_ID]])
    faces = u2s.Faces()
    assert [d for d in faces.detect([np.asarray(face.pixels)])[0] if d.score >= faces.residue_threshold] == []


def test_residue_is_tried_again_with_more_strength_and_every_attempt_is_recorded():
    answer = anonymize([picture(red=True)], editor=Persistent())
    assert answer[c.STATUS] == [c.ANONYMIZED]
    attempts = json.loads(answer[c.PROVENANCE][0])["attempts"]
    assert [(a["strength"], a["residue"]) for a in attempts] == [(0, 1), (1, 1), (2, 0)]
    assert anonymize([picture(red=True)], editor=Persistent(), attempts=2)[c.STATUS] == [c.WITHHELD]


def test_without_verification_the_output_says_so():
    answer = anonymize([picture(red=True)], editor=Broken("elsewhere"), verify=False)
    assert answer[c.STATUS] == [c.ANONYMIZED]
    assert json.loads(answer[c.PROVENANCE][0])["verified"] is False


def test_a_rewriting_editor_passes_where_the_region_moved():
    answer = anonymize([picture(red=True)], editor=Rewriter(), identity=ByPixels())
    assert answer[c.STATUS] == [c.ANONYMIZED]
    assert len(json.loads(answer[c.PROVENANCE][0])["attempts"]) == 1


def test_what_a_rewriting_editor_leaves_is_redacted():
    answer = anonymize([picture(red=True)], editor=Rewriter(keep_boxes=True), identity=ByPixels())
    attempts = json.loads(answer[c.PROVENANCE][0])["attempts"]
    assert [(a["editor"], a["redacts"]) for a in attempts] == [("Rewriter", False)] * 3 + [("Redact", True)]
    assert answer[c.STATUS] == [c.ANONYMIZED]
    assert RedSquares().detect([pixels(answer, 0)]) == [[]]


def test_an_inspection_of_another_image_does_not_pass_for_one_of_this():
    stale = RED({"image": [picture(), picture(red=True), picture()]})
    private = picture(red=True)
    answer = u2s.Anonymize(inspect=RED, format="png")({"image": [private, private, picture()], **stale})
    assert answer[c.STATUS] == [c.ANONYMIZED, c.ANONYMIZED, c.SAFE]
    assert all(RedSquares().detect([pixels(answer, i)]) == [[]] for i in range(2))
    trusting = u2s.Anonymize(inspect=RED, verify=False)({"image": [private] * 3, **stale})
    assert json.loads(trusting[c.PROVENANCE][0])["inspected"] == []


def test_a_region_that_the_editor_left_as_it_was_is_residue():
    """Also where no detector can see it: somebody else reported it, or the user drew it."""
    review = [[c.review_item("tattoo", "", "a model said so", (50, 30, 80, 60), 0.9)]]
    batch = {"image": [picture()], c.PRIVACY_FLAG: [True], c.PRIVACY_SCORE: [0.9], c.PRIVACY_REVIEW: review}
    assert u2s.Anonymize(inspect=RED, editor=Broken("elsewhere"))(batch)[c.STATUS] == [c.WITHHELD]
    assert u2s.Anonymize(inspect=RED)(batch)[c.STATUS] == [c.ANONYMIZED]


def test_what_no_detector_here_knows_was_not_looked_for_again():
    """A review of an earlier step with another detector: its box is hidden, but are its words gone? Who knows?"""
    red = {"image": [picture(red=True)]}
    found = RED(red)
    for category, verified in (("face", True), ("text", False)):
        review = [[{**found[c.PRIVACY_REVIEW][0][0], "category": category}]]
        answer = u2s.Anonymize(inspect=RED)({**red, **found, c.PRIVACY_REVIEW: review})
        assert answer[c.STATUS] == [c.ANONYMIZED]
        assert json.loads(answer[c.PROVENANCE][0])["verified"] is verified


def test_a_face_that_is_still_there_is_counted(photos):
    """Score looks for itself: a status that claims safety does not make it so."""
    original = str(photos / "people/astronaut.jpg")
    batch = {"image": [original], c.ANONYMIZED_IMAGE: [original], c.STATUS: [c.ANONYMIZED], c.PRIVACY_REVIEW: [[]]}
    scores = u2s.Score(inspect=Inspect(detectors=(u2s.Faces(),)))(batch)
    assert scores[c.RESIDUAL_FACES] == [1]


def test_unverified_output_says_so(photos, tmp_path, capsys):
    call = ["anonymize", str(photos / "things"), "--out", str(tmp_path / "o"), "--detectors", "faces", "--no-verify"]
    assert main(call) == 0
    assert "UNVERIFIED" in capsys.readouterr().out
    assert json.loads((tmp_path / "o/run.json").read_text())["verified"] is False
    assert "<b>Unverified:</b>" in (tmp_path / "o/report.html").read_text()


# What a push reads of a run is what was written


@pytest.fixture(scope="module")
def reviewed(tmp_path_factory) -> Path:
    """A run of forty small pictures in two shards, of which one row was rejected, evaluated, and audited."""
    home = tmp_path_factory.mktemp("bound")
    (home / "photos").mkdir()
    for i in range(40):
        picture(red=i % 3 == 0, seed=i).save(home / "photos" / f"{i:02d}.png")
    run = home / "safe"
    u2s.run(home / "photos", run, shard_size=25, **QUICK)
    decide(run, {public_rows(run)[0][c.ROW_ID]: "reject"}, by="ada")
    decide(run, dict.fromkeys(audit.draw(run, 35, seed=1, by="ada"), "approve"), by="ada")
    audit.finish(run, "ada")
    evaluate_run(run, score=u2s.Score(inspect=None))
    return run


@pytest.fixture
def run(reviewed, tmp_path) -> Path:
    """A copy of that run; its source lies where it lay."""
    return Path(shutil.copytree(reviewed, tmp_path / "safe"))


def why_not(run: Path, **options) -> dict[str, str]:
    return u2s.push_to_hub(run, "org/safe", dry_run=True, **ABOUT, **options).reasons


def _lies(run: dict) -> dict:
    return {**run, "inspected_criteria": ["every crime"], "not_inspected": [], "versions": {"<b>": "1"}, "skipped": {}}


def _nothing_rejected(reviews: dict) -> dict:
    return {row: {**entry, "review_decision": "approve"} for row, entry in reviews.items()}


def _no_attack(scores: dict) -> dict:
    return {**scores, "reidentification": [], "absent": {"<script>": "x"}}


EDITS = {
    "run.json": (_lies, lambda run: {**run, "verified": "yes"}, lambda run: {**run, "rows": 39}, lambda run: []),
    "private/reviews.json": (_nothing_rejected, lambda reviews: {}, lambda reviews: [], lambda reviews: None),
    "private/audit.json": (lambda a: {**a, "date": "2020-01-01"}, lambda a: {**a, "n": 40, "leaks": 0}),
    "eval.json": (_no_attack,),
    "private/manifest.json": (
        lambda m: {**m, "shards": m["shards"][:1]},
        lambda m: {**m, "configuration": {**m["configuration"], "kept_columns": ["path"]}},
        lambda m: {**m, "bound": {**m["bound"], "files": {}}},
        lambda m: {**m, "bound": None},
    ),
}


def test_a_run_that_nobody_touched_leaves_with_its_reviews_audit_and_scores(run):
    plan = u2s.push_to_hub(run, "org/safe", dry_run=True, max_leak_rate=0.1, **ABOUT)
    assert plan.reasons == {}
    assert "looked at 35 randomly drawn" in plan.card and "1 were rejected" not in plan.card
    rates = json.loads((run / "run.json").read_text())
    (run / "run.json").write_text(json.dumps({**rates, "rates": {"rows": 7}}))  # the clock alone, in other spacing
    assert why_not(run) == {}


@pytest.mark.parametrize(("name", "number"), [(name, i) for name, edits in EDITS.items() for i in range(len(edits))])
def test_an_edited_file_stops_push_and_report_and_is_named(run, name, number):
    content = json.loads((run / name).read_text())
    (run / name).write_text(json.dumps(EDITS[name][number](content)))
    with pytest.raises(u2s.U2SError, match=Path(name).name.replace(".", r"\.")):
        u2s.report(run)
    try:
        assert Path(name).name in why_not(run)["changed"]
    except u2s.SetupError as error:  # what is no JSON object of this kind cannot even be judged
        assert Path(name).name in str(error) or "manifest" in str(error)


@pytest.mark.parametrize("name", ["private/reviews.json", "private/audit.json"])
def test_a_missing_file_stops_push_and_report_and_is_named(run, name):
    (run / name).unlink()
    with pytest.raises(u2s.SetupError, match=rf"{Path(name).name}' is missing; restore a copy of it, or ask for every"):
        u2s.report(run)
    assert f"{name} is missing" in why_not(run)["changed"]
    with pytest.raises(u2s.SetupError, match="is missing"):
        decide(run, {public_rows(run)[0][c.ROW_ID]: "approve"}, by="ada")  # nor is it written over


@pytest.mark.parametrize(
    "name", ["private/reviews.json", "private/audit.json", "private/audit_sample.json", "eval.json"]
)
def test_a_file_that_was_added_stops_a_push_and_is_named(reviewed, tmp_path, name):
    u2s.run(reviewed.parent / "photos", tmp_path / "safe", shard_size=25, **QUICK)
    shutil.copy(reviewed / name if (reviewed / name).exists() else reviewed / "run.json", tmp_path / "safe" / name)
    assert name in why_not(tmp_path / "safe")["changed"]


def test_lost_reviews_are_asked_for_again_and_rejected_rows_stay_away(run, reviewed):
    (run / "private/reviews.json").unlink()
    (run / "private/audit.json").unlink()
    before = {row[c.ROW_ID] for row in public_rows(run)}
    with pytest.raises(u2s.SetupError, match=r"reviews\.json' is missing"):
        u2s.run(reviewed.parent / "photos", run, shard_size=25, **QUICK)
    asked = u2s.review_again(run, by="ada")
    assert set(asked) == before and "unresolved" in why_not(run)
    decide(run, dict.fromkeys(asked, "approve"), by="ada")
    assert why_not(run) == {} and {row[c.ROW_ID] for row in public_rows(run)} == before


def test_the_same_command_mends_run_json(run, reviewed):
    (run / "run.json").write_text("{}")
    u2s.run(reviewed.parent / "photos", run, shard_size=25, **QUICK)
    assert why_not(run) == {}


def test_a_change_by_hand_is_not_taken_over_by_the_next_one(run):
    facts = json.loads((run / "run.json").read_text())
    (run / "run.json").write_text(json.dumps(_lies(facts)))
    for change in (
        lambda: decide(run, {public_rows(run)[0][c.ROW_ID]: "reject"}, by="ada"),
        lambda: u2s.apply_reviews(run),
        lambda: audit.draw(run, 3, seed=0, by="ada"),
        lambda: rewrite_reports(run),
        lambda: evaluate_run(run, score=u2s.Score(inspect=None)),
    ):
        with pytest.raises(u2s.SetupError, match=r"run\.json' is not what was written"):
            change()


def test_an_output_of_an_earlier_version_leaves_when_that_is_allowed_with_the_facts_of_its_rows(run):
    unseal(run)
    facts = json.loads((run / "run.json").read_text())
    (run / "run.json").write_text(json.dumps({**_lies(facts), "profile": "<script>", "skipped": {"<script>": 1}}))
    assert u2s.report(run).rows == 40
    assert set(why_not(run)) == {"unbound"}
    plan = u2s.push_to_hub(run, "org/safe", dry_run=True, allow=["unbound"], **ABOUT)
    assert plan.reasons == {} and "did not bind its facts" in plan.card
    assert "every crime" not in plan.card and "script>" not in plan.card and "Profile: not recorded" in plan.card
    decide(run, {public_rows(run)[0][c.ROW_ID]: "approve"}, by="ada")
    assert set(why_not(run)) == {"unbound"}  # a change does not vouch for what was there before


def test_rows_that_changed_while_they_were_read_stop_a_push(run, monkeypatch):
    read = RunSplit.candidates

    def exchanged(split):
        yield from read(split)
        path = run / "private/rows/part-00001.parquet"
        path.write_bytes(path.read_bytes())

    monkeypatch.setattr(RunSplit, "candidates", exchanged)
    assert "private/rows/part-00001.parquet was changed while it was read" in why_not(run)["changed"]


def test_a_rejected_image_leaves_the_public_folder_at_once_and_can_be_taken_back(run):
    row = public_rows(run)[3]
    everything = {row[c.ROW_ID]: row for row in public_rows(run)}
    decide(run, {row[c.ROW_ID]: "reject"}, by="ada")
    public = b"".join(p.read_bytes() for p in run.rglob("*") if p.is_file() and "private" not in p.parts)
    assert row[c.ANONYMIZED_IMAGE]["bytes"] not in public and row[c.ROW_ID].encode() not in public
    assert not (run / "report.html").exists()  # its pictures may be of that row
    assert u2s.report(run).reasons["rejected"] == 2 and why_not(run) == {}
    decide(run, {row[c.ROW_ID]: "approve"}, by="ada")
    assert {row[c.ROW_ID]: row for row in public_rows(run)} == everything
    assert u2s.report(run).reasons["rejected"] == 1 and why_not(run) == {}


AUDITED = {"n": 35, "leaks": 0, "confidence": 0.95, "upper_bound": 0.09, "date": "2026-11-20"}
IMPOSSIBLE = (
    {"n": 3, "confidence": 0.01},
    {"n": 10, "confidence": 1e-9},
    {"confidence": 0.89},
    {"confidence": 1.0},
    {"confidence": 1 - 2**-60},
    {"n": 0},
    {"leaks": -1},
    {"leaks": 36},
    {"n": True},
    {"upper_bound": 0.05},
    {"date": "<script>"},
    {"date": "yesterday"},
    {"drawn": ["a"] * 35},
    {"drawn": ["a", "b"]},
)


@pytest.mark.parametrize("lie", IMPOSSIBLE, ids=str)
def test_an_audit_that_cannot_be_is_none(lie):
    assert checked_audit(AUDITED).n == 35
    with pytest.raises((ValueError, KeyError, TypeError)):
        checked_audit({**AUDITED, **lie})


@pytest.mark.parametrize(
    ("said", "why"),
    [
        ({"n": 300, "upper_bound": 0.0099365}, "300 images were looked at, of 8 that there are"),
        ({"n": 7, "upper_bound": 0.35}, "the audit looked at 7 images; expected 8 or more"),
        ({"n": 8, "upper_bound": 0.32}, "the audit's bound is 32.00%, above 30.00%"),
    ],
)
def test_an_audit_of_a_dataset_is_of_its_rows(said, why):
    plan = u2s.push_to_hub(anonymized(), "org/x", audit={**AUDITED, **said}, max_leak_rate=0.3, dry_run=True, **ABOUT)
    assert why in plan.reasons["audit"]


def test_an_audit_is_of_rows_of_this_run(run):
    result = json.loads((run / "private/audit.json").read_text())
    (run / "private/audit.json").write_text(json.dumps({**result, "drawn": [f"{i:032x}" for i in range(35)]}))
    seal_again(run)
    assert "not of this run" in why_not(run)["audit"]
    with pytest.raises(u2s.SetupError, match=r"invalid confidence=0\.5; expected a finite number >= 0\.9"):
        audit.finish(run, "ada", confidence=0.5)
