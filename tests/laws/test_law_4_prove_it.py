"""Law 4, prove it: the output is inspected again; on residue harder, then redaction, then withheld."""

import json

import numpy as np

import u2s_datasets as u2s
from tests.helpers.fakes import Broken, ByPixels, Persistent, RedSquares, Rewriter, picture
from tests.helpers.run_files import private_rows, public_rows
from tests.helpers.steps import RED, anonymize, pixels
from u2s_datasets import columns as c
from u2s_datasets import images
from u2s_datasets.cli.main import main
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
    answer = anonymize([picture(red=True)], editor=Rewriter(keep_boxes=True))
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
