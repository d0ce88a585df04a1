"""`u2s eval` on real runs: what it measures, what it attacks, what it shows to whom."""

import json
import shutil
import stat
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from datasets import Dataset

import u2s_datasets as u2s
from tests.helpers.fakes import Grid, Heads, RedSquares, picture, portrait
from tests.helpers.html_page import parsed
from tests.helpers.tiny_models.metrics import recognition
from u2s_datasets import columns as c
from u2s_datasets.cli.bench.sample_photos import write_samples
from u2s_datasets.cli.main import main
from u2s_datasets.errors import SetupError, U2SError
from u2s_datasets.evaluation.attacks import Gallery
from u2s_datasets.evaluation.evaluate import evaluate_run, make_parts
from u2s_datasets.evaluation.report.report import Report, report, rewrite_reports
from u2s_datasets.evaluation.report.summary import summarize
from u2s_datasets.evaluation.vispr.evaluate import Measured, VisprResult
from u2s_datasets.parts.metrics import flags
from u2s_datasets.parts.metrics.definitions import SPECS
from u2s_datasets.parts.metrics.face_encoders import OnnxFaces
from u2s_datasets.parts.metrics.intervals import mean_interval
from u2s_datasets.stages.inspect import Inspect

SCORE = u2s.Score(inspect=Inspect(detectors=(RedSquares(),)), clip=Grid(), faces=Heads())


@pytest.fixture
def done(tmp_path):
    """A run over 8 people, 6 pictures without one, and a file that is no image."""
    photos = tmp_path / "photos"
    photos.mkdir()
    for i in range(8):
        portrait((200, 10 * i, 250 - 30 * i), seed=i).save(photos / f"person-{i}.png")
    for i in range(6):
        picture(seed=50 + i).save(photos / f"thing-{i}.png")
    (photos / "broken.png").write_bytes(b"\x89PNG no more")
    u2s.run(photos, tmp_path / "out", detectors=["tests.helpers.fakes:RedSquares"], num_proc=1, shard_size=4)
    return tmp_path


def test_an_evaluation_measures_what_the_run_did_not(done):
    made = evaluate_run(done / "out", score=SCORE)
    scores = {s.name: s for s in made.report.scores}
    assert (scores[c.FACE_SIMILARITY].n, scores[c.FACE_SIMILARITY].missing) == (8, 7)
    assert scores[c.FACE_SIMILARITY].why == {"no face in the original": 6, "withheld": 1}
    assert scores[c.FACES_VANISHED].mean == pytest.approx(8 / 14)
    assert scores[c.SSIM].n == 14 and scores[c.CLIP_SIMILARITY].n == 14
    again = {s.name: s for s in report(done / "out").scores}
    assert again[c.FACES_VANISHED] == scores[c.FACES_VANISHED]
    rows = pq.read_table(done / "out/private/eval.parquet").to_pylist()
    assert all(row[c.SSIM] is None for row in rows)  # the run's own stands, before encoding


def test_attack_and_controls(done):
    made = evaluate_run(done / "out", score=SCORE)
    attacks = {(a.encoder, a.kind): a for a in made.evaluation.attacks}
    edited = attacks["clip", "edited"].rates[0]
    assert (edited.n, edited.gallery, edited.chance) == (8, 14, 1 / 14)
    assert edited.rate == 1.0  # a covered face leaves the rest of the picture as it was
    assert attacks["clip", "no-op"].rates[0].rate == 1.0
    assert attacks["clip", "shuffled"].rates[0].rate < 0.5
    faces = attacks["face", "edited"]
    assert (faces.rates[0].n, faces.without, faces.rates[0].rate) == (0, 8, None)  # nobody has a face any more
    untouched, shuffled = (made.evaluation.controls[kind] for kind in ("no-op", "shuffled"))
    assert untouched[c.SSIM] == (14, 1.0) and shuffled[c.SSIM][1] < 0.5
    assert untouched[c.FACE_SIMILARITY][1] == pytest.approx(1.0)
    assert shuffled[c.FACE_SIMILARITY][1] < 0.9
    assert untouched[c.CLIP_RATIO][1] == pytest.approx(1.0)


@pytest.mark.slow
def test_on_real_photos_what_is_left_as_it_was_scores_as_untouched(tmp_path):
    """Real detectors, OCR on both sides: the controls of the default evaluation, and of a face network."""
    write_samples(tmp_path / "photos")
    for name in ("things", "papers/page.jpg"):
        shutil.move(tmp_path / "photos" / name, tmp_path / Path(name).name)
    u2s.run(tmp_path / "photos", tmp_path / "out", num_proc=1)
    made = evaluate_run(
        tmp_path / "out", score=u2s.Score(clip=Grid(), faces=OnnxFaces(str(recognition(tmp_path / "net"))))
    )
    untouched, shuffled = (made.evaluation.controls[kind] for kind in ("no-op", "shuffled"))
    for name in (c.SSIM, c.CLIP_RATIO, c.FACE_SIMILARITY, c.FACES_VANISHED, c.TEXT_SIMILARITY, c.TEXT_RECALL):
        assert untouched[name][0] > 0 and untouched[name][1] == pytest.approx(SPECS[name].untouched, abs=1e-6), name
    assert shuffled[c.SSIM][1] < 0.5 and shuffled[c.TEXT_RECALL][1] < 0.1
    attacks = {(a.encoder, a.kind): a.rates[0].rate for a in made.evaluation.attacks}
    assert attacks["clip", "no-op"] == attacks["face", "no-op"] == 1.0
    assert {*untouched} <= {name for name, spec in SPECS.items() if spec.untouched is not None}


def test_what_is_absent_names_no_folder_to_anyone(done, monkeypatch):
    monkeypatch.setenv("TORCH_HOME", "/home/jane/secret")
    monkeypatch.setenv("HOME", "/home/jane")
    evaluate_run(done / "out")
    for name in ("eval.json", "eval.md", "report.html"):
        assert "jane" not in (done / "out" / name).read_text() and "antelopev2" in (done / "out" / name).read_text()


def test_how_reliable_the_inspection_is_stands_on_both_pages(done, tmp_path, capsys):
    truth, scores = np.array([True, True, False, False, True]), np.array([0.9, 0.6, 0.7, 0.1, 0.2])
    counts = flags.count(truth, scores >= 0.5)
    curve = flags.precision_recall_curve(truth, scores)
    questions = (
        Measured("all", "All <b>things</b>", ("model",), "", counts, {}, flags.bootstrap(counts), curve),
        Measured("health", "Health", not_measured="nothing looks for it"),
    )
    VisprResult("cpu", "test", 5, questions, {}).write(tmp_path / "vispr.json")
    assert main(["eval", str(done / "out"), "--vispr", str(tmp_path / "vispr.json"), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)["inspection"]["questions"]
    assert found[0]["metrics"]["recall"]["value"] == pytest.approx(2 / 3, abs=1e-4)
    assert [tuple(p) for p in found[0]["curve"]] == [
        (pytest.approx(r, abs=1e-4), pytest.approx(p, abs=1e-4))
        for r, p in zip(curve.recall, curve.precision, strict=True)
    ]
    rewrite_reports(done / "out")
    for name in ("report.html", "private/report.html"):
        page = (done / "out" / name).read_text()
        assert "All &lt;b&gt;things" in page and 'aria-label="precision and recall"' in page
        assert "0.667" in page and "not measured on VISPR: nothing looks for it" in page
        parsed(page)
    assert "0.667" in (done / "out/eval.md").read_text()
    rows = Dataset.from_dict({c.STATUS: [c.SAFE]})
    assert "The inspection on VISPR test" in str(report(rows, vispr=tmp_path / "vispr.json"))


@pytest.mark.parametrize("words", ["", "{}", "[1]", '{"dataset": "VISPR"}', '{"dataset": "COCO", "questions": []}'])
def test_what_is_no_result_of_vispr_is_refused(done, tmp_path, words, capsys):
    (tmp_path / "other.json").write_text(words)
    for name in ("other.json", "nowhere.json"):
        assert main(["eval", str(done / "out"), "--vispr", str(tmp_path / name)]) == 2
        assert capsys.readouterr().err.count("\n") == 1


def test_rows_stay_private_and_a_few_rows_too(done):
    evaluate_run(done / "out", score=SCORE)
    private = done / "out/private"
    for name in ("eval.json", "eval.md", "eval.parquet"):
        assert stat.S_IMODE((private / name).stat().st_mode) == 0o600
    public = (done / "out/eval.json").read_text() + (done / "out/eval.md").read_text()
    assert "person-" not in public and "why" not in public and "worst" not in public and "category" not in public
    shown = json.loads((done / "out/eval.json").read_text())
    assert (
        shown["scores"][c.SSIM]["n"] == 14
        and round(shown["scores"][c.SSIM]["mean"], 2) == shown["scores"][c.SSIM]["mean"]
    )
    assert {a["encoder"] for a in shown["reidentification"]} == {"clip"}  # no face was tried, so no control alone
    assert "finds its own original" in (done / "out/report.html").read_text()
    assert "no face in the original" in (private / "eval.md").read_text()
    assert "faces_same" in (done / "out/private/report.html").read_text()


def test_over_flagged_leaves_out_what_was_not_flagged(done):
    made = evaluate_run(done / "out", score=SCORE, over="flagged")
    scores = {s.name: s for s in made.report.scores}
    assert (scores[c.SSIM].n, scores[c.SSIM].missing) == (8, 1)  # the broken file counts as flagged
    assert scores[c.SSIM].mean < 1
    assert {s.name: s for s in report(done / "out").scores}[c.SSIM].n == 14
    with pytest.raises(SetupError, match="over='some'"):
        evaluate_run(done / "out", over="some")


def test_originals_that_moved_are_missing_or_named(done):
    shutil.move(done / "photos", done / "elsewhere")
    made = evaluate_run(done / "out", score=SCORE)
    clip = next(s for s in made.report.scores if s.name == c.CLIP_SIMILARITY)
    assert (clip.n, clip.why) == (0, {"the original is not there": 14, "withheld": 1})
    assert made.evaluation.controls == {}
    made = evaluate_run(done / "out", score=SCORE, original=str(done / "elsewhere"))
    assert next(s for s in made.report.scores if s.name == c.CLIP_SIMILARITY).n == 14


def test_the_papers_definitions_replace_ours(done):
    score = u2s.Score(inspect=Inspect(detectors=(RedSquares(),)), faces=Heads(), paper_compat=True)
    made = evaluate_run(done / "out", score=score)
    faces = next(s for s in made.report.scores if s.name == c.FACE_SIMILARITY)
    assert faces.n == 0  # every face vanished, and those are left out there


def test_an_evaluation_of_other_rows_is_refused(done):
    evaluate_run(done / "out", score=SCORE)
    path = done / "out/private/eval.parquet"
    pq.write_table(pq.read_table(path).slice(1), path)
    with pytest.raises(U2SError, match="of other rows; remove it"):
        report(done / "out")


def test_a_set_of_which_nothing_is_published(tmp_path):
    (tmp_path / "in").mkdir()
    (tmp_path / "in/broken.png").write_bytes(b"\x89PNG no more")
    out = tmp_path / "out"
    u2s.run(tmp_path / "in", out, detectors=["tests.helpers.fakes:RedSquares"], num_proc=1)
    made = evaluate_run(out, score=SCORE)
    assert made.report.rows == 1 and "1 rows" in str(made)
    assert all(r.rate is None for a in made.evaluation.attacks for r in a.rates)
    assert "NaN" not in (out / "private/eval.json").read_text()


def test_the_command_says_what_it_cannot_measure_and_why(done, capsys, monkeypatch):
    monkeypatch.setenv("TORCH_HOME", str(done))
    monkeypatch.setenv("HOME", str(done))
    assert main(["eval", str(done / "out"), "--json"]) == 0
    absent = json.loads(capsys.readouterr().out)["absent"]
    assert "non-commercial" in absent[c.FACE_SIMILARITY] and "VGG-16" in absent[c.LPIPS]
    assert "--vlm" in absent[c.VLM_SCORE] and "MIT" in absent[c.CLIP_RATIO]
    assert main(["eval", str(done / "nowhere")]) == 2
    assert "no finished run in" in capsys.readouterr().err


def test_parts_by_the_command_lines_words(tmp_path):
    parts = make_parts("some/clip", "vgg.pth", "tests.helpers.fakes:Heads", "http://127.0.0.1:9/v1#judge")
    assert (
        isinstance(parts["faces"], Heads) and parts["clip"].model == "some/clip" and parts["lpips"].trunk == "vgg.pth"
    )
    assert (parts["vlm"].model, parts["vlm"].base_url) == ("judge", "http://127.0.0.1:9/v1")
    assert make_parts(None, None, "net.onnx", None)["faces"].file == "net.onnx"


def test_a_gallery_on_disk_finds_what_is_alike_and_nothing_else(tmp_path):
    random = np.random.default_rng(0)
    gallery = Gallery(tmp_path, "clip")
    for i in range(300):
        before = random.normal(size=(1, 32))
        after = {0: before, 1: random.normal(size=(1, 32)), 2: np.full((1, 32), np.nan)}[min(i % 3, 2)]
        gallery.add(i, before, after if i % 3 < 2 or i < 30 else None)
    attacks = {a.kind: a for a in gallery.attacks(queries=210)}
    gallery.close()
    assert attacks["edited"].rates[0].n == 200 and attacks["edited"].without == 10
    assert 100 <= attacks["edited"].rates[0].found <= 104
    assert attacks["no-op"].rates[1].rate == 1.0
    shuffled = attacks["shuffled"].rates[1]
    assert shuffled.low <= shuffled.chance <= shuffled.high


def test_the_interval_is_seeded_and_near_the_normal_one():
    values = np.random.default_rng(5).normal(3, 2, 400)
    low, high = mean_interval(values)
    half = 1.96 * values.std(ddof=1) / 20
    assert (low, high) == mean_interval(values)
    assert low == pytest.approx(values.mean() - half, abs=0.05) and high == pytest.approx(
        values.mean() + half, abs=0.05
    )
    many = np.tile(values, 60)
    assert mean_interval(many)[1] == pytest.approx(values.mean() + half / 60**0.5, abs=0.01)
    assert mean_interval(values[:1]) is None


def test_entropy_and_categories_over_a_set():
    item = c.review_item("people", "x", "y", None, 1.0)
    batch = pa.RecordBatch.from_pydict(
        {
            c.PRIVACY_FLAG: [True, True, False],
            c.PRIVACY_REVIEW: [[item, item], [item], []],
            c.SSIM: [0.2, None, 1.0],
            c.RACE_BEFORE: [["White"], ["White"], []],
            c.RACE_AFTER: [["White"], ["Indian"], ["Black"]],
        }
    )
    made = summarize([batch])
    assert made.by_category == {("people", c.SSIM): (1, 0.2)}
    assert (made.race["before"].value, made.race["before"].without) == (0.0, 1)
    assert made.race["after"].value == pytest.approx(np.log(3) / np.log(5))
    assert summarize([batch], over="flagged").race["after"].value == pytest.approx(np.log(2) / np.log(5))


def test_the_shares_of_the_races_are_private():
    labels = {c.RACE_BEFORE: [["White"]] * 6 + [["Indian"]], c.RACE_AFTER: [["White"], ["Black"]] * 3 + [[]]}
    made = Report(**vars(summarize([pa.RecordBatch.from_pydict(labels)])))
    assert "14%" in made.to_markdown(private=True) and "14%" not in made.to_markdown()
    shown = json.loads(made.to_json())["race_entropy"]
    assert shown["after"] == {"value": 0.43, "n": 6} and "counts" not in str(shown)
    few = Report(**vars(summarize([pa.RecordBatch.from_pydict({c.RACE_AFTER: [["White"]] * 4})])))
    assert "race_entropy" not in json.loads(few.to_json()) and "entropy" not in few.to_markdown()


@pytest.mark.slow
def test_bench_gives_the_rate_of_each_metric(capsys, monkeypatch, tmp_path):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setenv("HOME", str(tmp_path))
    assert main(["bench", "eval", "--rows", "2"]) == 0
    facts = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert facts["ssim_speed_up"] > 0
    assert facts["rows"] == 2 and set(facts["pairs_per_second"]) >= {"ssim", "text_recall", "rank of 10,000"}
    assert all(rate > 0 for rate in facts["pairs_per_second"].values())
    assert "faces" in facts["absent"]


@pytest.mark.slow
def test_bench_measures_the_memory_of_a_tenth_and_of_the_whole(capsys):
    assert main(["bench", "eval", "--memory", "--rows", "40"]) == 0
    facts = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert [made["rows"] for made in facts["memory"]] == [4, 40]
    assert all(made["mapped_mib"] > made["anonymous_mib"] > 10 for made in facts["memory"])
    assert main(["bench", "eval", "--memory", "--rows", "9"]) == 2
    assert main(["bench", "eval", "photos", "--memory"]) == 2
