"""VISPR: its attributes as criteria, its layout on the disk, and the evaluation, resumed after real kills."""

import json
import logging
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import dataclass

import pytest
from PIL import Image

import u2s_datasets as u2s
from tests.helpers.fakes import RedSquares
from u2s_datasets.cli.main import main
from u2s_datasets.evaluation.vispr import evaluate
from u2s_datasets.evaluation.vispr.answers import AnswerFile
from u2s_datasets.evaluation.vispr.dataset import read_split
from u2s_datasets.parts.catalog import known_categories
from u2s_datasets.privacy import criteria
from u2s_datasets.privacy import vispr_attributes as vispr
from u2s_datasets.stages.inspect import scope

# The width of a picture tells it: labels, what the model says of everything, and (question, what it says to that).
PICTURES = {
    31: (["a1_age_approx", "a9_face_complete"], 0.95, {"faces": 0.9}),
    32: (["a10_face_partial"], 0.6, {"faces": 0.1}),
    33: (["a102_vehicle_ownership", "a103_license_plate_complete"], 0.9, {"vehicles": 0.8, "faces": 0.7}),
    34: (["a43_medicine"], 0.1, {"signs of somebody's health": 0.9}),
    35: (["a62_opinion_political"], 0.9, {"personal opinions": 0.05}),
    36: (["a0_safe"], 0.05, {}),
    37: (["a0_safe"], 0.3, {}),
    38: (["a0_safe"], 0.1, {}),
}


def says(p):
    return {"TRUE": p, "FALSE": 1 - p}


MODEL = u2s.Scripted(
    (
        *(
            (f"(?s){w}x24 .*one thing only: {n}\\.", says(p))
            for w, (_, _, own) in PICTURES.items()
            for n, p in own.items()
        ),
        *((f"(?s){w}x24 .*These things count", says(p)) for w, (_, p, _) in PICTURES.items()),
    ),
    default=says(0.01),
)


def profile(**options):
    inspect = u2s.Inspect(**{"detectors": (), "backend": MODEL, **options})
    return u2s.Profile("scripted", u2s.Anonymize(inspect=inspect), u2s.Score())


SCRIPTED = profile()
WRITES = profile(backend=u2s.Scripted(default="PRIVACY_FLAG: TRUE"), method="generate")


def annotate(root, name, labels):
    facts = {"id": name, "image_path": f"images/test2017/{name}.jpg", "labels": labels}
    (root / f"annotations/test2017/{name}.json").write_text(json.dumps(facts))
    with (root / "test2017.txt").open("a") as lines:
        lines.write(f"annotations/test2017/{name}.json\n")


@pytest.fixture
def root(tmp_path):
    """A small VISPR in the dataset's own layout."""
    root = tmp_path / "vispr"
    (root / "annotations/test2017").mkdir(parents=True)
    (root / "images/test2017").mkdir(parents=True)
    for width, (labels, _, _) in PICTURES.items():
        annotate(root, f"2017_{width}", labels)
        Image.new("RGB", (width, 24), (90, 120, 150)).save(root / f"images/test2017/2017_{width}.jpg")
    return root


def by_name(result):
    return {m.name: m for m in result.measured}


def figures(measured):
    return [measured.metrics[name].value for name in ("recall", "precision", "f1")]


# --- attributes as criteria


def test_the_67_and_their_groups_by_name():
    every = u2s.load_criteria("vispr")
    assert len(every) == 67 == len({name for name, _ in every}) == len({words for _, words in every})
    assert {a.group for a in vispr.ATTRIBUTES.values()} == {
        "Personal Description", "Documents", "Health", "Employment", "Personal Life", "Relationship", "Whereabouts",
        "Internet", "Automobile",
    }  # fmt: skip
    assert u2s.load_criteria("a9_face_complete") == (("a9_face_complete", "a face that can be seen whole"),)
    for name, group in vispr.GROUPS.items():
        assert tuple(found for found, _ in u2s.load_criteria(f"vispr:{name}")) == group.ids
    assert u2s.load_criteria("vispr: Personal Life") == u2s.load_criteria("vispr:personal_life")
    sets = [u2s.load_criteria(name) for name in vispr.set_names()]
    assert all(set(found) <= set(every) for found in sets)


def test_attributes_mix_with_the_nine_and_shadow_none(tmp_path):
    assert not {*vispr.ATTRIBUTES, *vispr.set_names()} & set(criteria.CRITERIA)
    file = tmp_path / "mine.txt"
    file.write_text("health\nvispr:health\nmedals: medals of all kinds\n")
    names = [name for name, _ in u2s.load_criteria(file)]
    assert names == ["health", "a39_disability_physical", "a41_injury", "a43_medicine", "medals"]
    assert u2s.load_criteria("health") == (("health", "health indicators"),)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ("vispr:faces", "unknown VISPR group 'vispr:faces'; expected one of: vispr, vispr:face"),
        ("vispr:", "unknown VISPR group"),
        ("a9", "unknown criterion 'a9'"),
        (["vispr:face", "a9_face_complete"], "'a9_face_complete' is given twice"),
    ],
)
def test_names_that_are_none_of_vispr(given, words):
    with pytest.raises(u2s.SetupError, match=words):
        u2s.load_criteria(given)


def test_a_report_names_attributes_and_not_as_the_users_own():
    known = [*known_categories().values()]
    inspected, left = scope(known, u2s.load_criteria("vispr"))
    assert "all 67 attributes of VISPR (judged by a model)" in inspected and left == []
    assert len(inspected) == len(known) + 1
    inspected, left = scope((), u2s.load_criteria(["a7_fingerprint", "medals: of Anna"]))
    assert inspected[1] == "criteria of the user's own (judged by a model)" and "Anna" not in str(inspected)
    assert inspected[0].startswith("fingerprints") and "health indicators" in left


def test_one_criterion_has_a_prompt_of_its_own():
    asked = u2s.Inspect(backend=MODEL, criteria=u2s.load_criteria("people"))._question()
    assert "for one thing only: people." in asked and "is meant:\nfaces whole" in asked
    assert "These things count" in u2s.Inspect(backend=MODEL)._question()


# --- figures


def test_figures_worked_by_hand(root):
    result = u2s.evaluate_vispr(root, profile=SCRIPTED)
    measured = by_name(result)
    assert list(measured) == ["all", "face", "health", "vehicles", "opinion"]
    assert figures(measured["all"]) == pytest.approx([4 / 5, 4 / 5, 4 / 5])
    assert figures(measured["face"]) == pytest.approx([1 / 2, 1 / 2, 1 / 2])
    assert figures(measured["health"]) == figures(measured["vehicles"]) == [1, 1, 1]
    assert figures(measured["opinion"]) == [0, None, 0]
    assert measured["all"].curve.recall == pytest.approx((1, 1, 0.8, 0.8, 0.6, 0.2))
    assert measured["all"].curve.average_precision == pytest.approx(0.8 + 1 / 7)
    table = str(result)
    assert table.splitlines()[0] == "VISPR test, profile scripted, 8 images"
    assert table.splitlines()[2].split()[:6] == ["All", "attributes", "5", "5", "0", "0.800"]
    assert re.search(r"opinion +1 +0 +0 +0.000 \[0.000, 0.000\] +– +0.000 \[0.000, 0.000\] +1.000", table)


def test_the_command_writes_the_same_as_python_and_keeps_the_answers_private(root, tmp_path, capsys, caplog):
    caplog.set_level(logging.INFO)
    out = tmp_path / "here/vispr.json"
    call = ["vispr", "--root", str(root), "--out", str(out), "--profile", f"{__name__}:SCRIPTED", "--batch-size", "3"]
    assert main(call) == 0
    printed = capsys.readouterr().out
    result = u2s.evaluate_vispr(root, profile=SCRIPTED)
    assert printed == f"{result}\n\nfigures and curves  {out}\n"
    assert out.read_text() == result.to_json() + "\n"
    answers = out.with_suffix(".answers.jsonl")
    assert answers.stat().st_mode & 0o777 == 0o600
    assert "2017_31.jpg" in answers.read_text()
    for public in (printed, out.read_text(), caplog.text):
        assert "2017_3" not in public and str(root) not in public
    facts = json.loads(out.read_text())
    assert facts["questions"][0]["curve"]["threshold"][0] == pytest.approx(0.05)
    assert facts["questions"][1]["judged_by"] == ["model"]


def test_threshold_criteria_and_limit(root):
    strict = by_name(u2s.evaluate_vispr(root, profile=SCRIPTED, threshold=0.5))
    assert figures(strict["all"]) == pytest.approx([3 / 5 + 1 / 5, 1, 8 / 9])
    one = u2s.evaluate_vispr(root, profile=SCRIPTED, criteria="vehicles: cars of all kinds", limit=3)
    assert one.images == 3 and figures(by_name(one)["all"]) == [1 / 3, 1, 1 / 2]


def test_batches_change_nothing_and_the_seed_the_intervals_alone(root):
    first = u2s.evaluate_vispr(root, profile=SCRIPTED)
    assert u2s.evaluate_vispr(root, profile=SCRIPTED, batch_size=1).to_json() == first.to_json()
    other = by_name(u2s.evaluate_vispr(root, profile=SCRIPTED, seed=1))["all"]
    assert other.curve == by_name(first)["all"].curve
    assert other.metrics["recall"].value == by_name(first)["all"].metrics["recall"].value


def test_a_written_flag_has_a_curve_of_one_point(root):
    everything = by_name(u2s.evaluate_vispr(root, profile=WRITES))["all"]
    assert figures(everything) == pytest.approx([1, 5 / 8, 10 / 13])
    assert everything.curve.threshold == (1.0,)


def test_another_model_for_a_named_profile(root):
    made = evaluate._load_profile("permissive", "http://127.0.0.1:9/v1", {"inspect": "served"})
    assert (made.inspect.backend.model, made.inspect.backend.base_url) == ("served", "http://127.0.0.1:9/v1")
    for more in ({"backend": "vllm"}, {"models": {"inspect": "x"}}):
        with pytest.raises(u2s.SetupError, match="this one has its own"):
            u2s.evaluate_vispr(root, profile=SCRIPTED, **more)


def test_the_method_may_be_another(root):
    options = {"profile": WRITES, "threshold": 0.3}
    with pytest.raises(u2s.SetupError, match="threshold is for method='choose'"):
        u2s.evaluate_vispr(root, **options)
    both = u2s.Scripted(default="PRIVACY_FLAG: TRUE")
    written = u2s.evaluate_vispr(root, profile=profile(backend=both), method="generate")
    assert by_name(written)["all"].curve.threshold == (1.0,)


def test_without_a_model_only_what_detectors_look_for_is_measured(root):
    Image.new("RGB", (32, 24), (255, 0, 0)).save(root / "images/test2017/2017_31.jpg", "png")
    detects = profile(detectors=(RedSquares(),), backend=None)
    result = u2s.evaluate_vispr(root, profile=detects)
    measured = by_name(result)
    assert figures(measured["face"]) == [1 / 2, 1, 2 / 3]
    assert figures(measured["all"]) == [1 / 5, 1, 1 / 3]
    for name in ("health", "vehicles", "opinion"):
        assert measured[name].counts is None and measured[name].metrics == {} and measured[name].curve is None
    assert "Vehicles: not measured: the profile has no model" in str(result)
    assert "Not looked for" in str(result) and "- health indicators" in str(result)
    assert json.loads(result.to_json())["questions"][3]["counts"] is None


def test_a_detector_joins_the_group_that_it_looks_for_and_no_other(root):
    Image.new("RGB", (36, 24), (255, 0, 0)).save(root / "images/test2017/2017_36.jpg", "png")
    measured = by_name(u2s.evaluate_vispr(root, profile=profile(detectors=(RedSquares(),))))
    assert (
        measured["face"].judged_by == ("model", "detector RedSquares") and measured["face"].counts.false_positives == 2
    )
    assert measured["vehicles"].judged_by == ("model",) and measured["vehicles"].counts.false_positives == 0
    alone = by_name(u2s.evaluate_vispr(root, profile=profile(detectors=(RedSquares(),)), detectors=()))
    assert alone["face"].judged_by == ("model",) and alone["face"].counts.false_positives == 1


def test_real_photos_through_the_default_profile(root, photos, tmp_path, capsys):
    shutil.copy(photos / "people/astronaut.jpg", root / "images/test2017/2017_31.jpg")
    shutil.copy(photos / "things/coffee.jpg", root / "images/test2017/2017_32.jpg")
    call = ["vispr", "--root", str(root), "--out", str(tmp_path / "v.json"), "--detectors", "faces", "--limit", "2"]
    assert main(call) == 0
    assert "Personal opinion: not measured: the profile has no model" in capsys.readouterr().out
    face = json.loads((tmp_path / "v.json").read_text())["questions"][1]
    assert face["counts"] == {"true_positives": 1, "false_positives": 0, "false_negatives": 1, "true_negatives": 0}
    assert face["judged_by"] == ["detector Faces"]


# --- failing closed


def test_images_that_cannot_be_judged_count_as_flagged_and_are_shown_as_failed(root):
    files = root / "images/test2017"
    (files / "2017_36.jpg").unlink()
    (files / "2017_37.jpg").write_bytes((files / "2017_37.jpg").read_bytes()[:300])
    (files / "2017_38.jpg").write_bytes(b"no image")
    result = u2s.evaluate_vispr(root, profile=SCRIPTED)
    everything = by_name(result)["all"]
    assert sum(everything.failed.values()) == 3 and everything.failed["missing"] == 1
    assert everything.counts.false_positives == 3 and everything.counts.true_negatives == 0
    assert by_name(result)["opinion"].counts.false_positives == 3
    assert "Up to 3 images could not be read or judged; they count as flagged." in str(result)


def test_an_answer_that_fails_fails_its_own_question_alone(root):
    rules = (("(?s)36x24 .*one thing only: faces", u2s.RowError("Anna", "of their own")), *MODEL.answers)
    measured = by_name(u2s.evaluate_vispr(root, profile=profile(backend=u2s.Scripted(rules, MODEL.default))))
    assert measured["face"].failed == {"error": 1} and measured["face"].counts.false_positives == 2
    assert measured["all"].failed == measured["vehicles"].failed == {}


# --- wrong calls


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"root": "nowhere"}, "'nowhere' is not a folder; give the one that holds test2017.txt"),
        ({"root": "."}, "test2017.txt is missing, and annotations/test2017/ holds no annotation"),
        ({"split": "dev"}, "unknown split 'dev'; expected one of: train, val, test"),
        ({"split": "val"}, "val2017.txt is missing"),
        ({"profile": "best"}, "unknown profile 'best'"),
        ({"profile": f"{__name__}:NOTHING"}, "cannot be imported"),
        ({"profile": f"{__name__}:MODEL"}, "is of type Scripted; expected a u2s_datasets.Profile"),
        ({"profile": "cpu", "threshold": "0.5"}, "threshold is for a model, and the profile 'cpu' has none"),
        ({"detectors": "none", "profile": "cpu"}, "inspects nothing"),
        ({"threshold": "1.5"}, "invalid threshold=1.5; expected a finite number > 0 and <= 1"),
        ({"limit": "0"}, "invalid limit=0; expected a whole number"),
        ({"out": "result.txt"}, "give a file such as vispr.json"),
        ({"out": "mine.json"}, "holds something else"),
    ],
)
def test_wrong_words_exit_with_two_and_one_line(root, tmp_path, monkeypatch, capsys, change, words):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.json").write_text('{"my": "figures"}')
    options = {"root": str(root), "out": "v.json", "profile": f"{__name__}:SCRIPTED", **change}
    assert main(["vispr", *(f"--{name}={value}" for name, value in options.items())]) == 2
    captured = capsys.readouterr()
    assert captured.out == "" and captured.err.count("\n") == 1
    assert re.search(words, captured.err)
    assert {p.name for p in tmp_path.iterdir()} == {"vispr", "mine.json"}


def test_a_list_whose_annotations_or_images_are_not_there(root):
    (root / "annotations/test2017/2017_33.json").unlink()
    with pytest.raises(u2s.SetupError, match=r"2017_33.json' of the dataset cannot be read: No such file"):
        u2s.evaluate_vispr(root, profile=SCRIPTED)
    assert u2s.evaluate_vispr(root, profile=SCRIPTED, limit=2).images == 2
    shutil.rmtree(root / "images")
    with pytest.raises(u2s.SetupError, match="none of its 2 images, such as 'images/test2017/2017_31"):
        u2s.evaluate_vispr(root, profile=SCRIPTED, limit=2)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("{", "is not VISPR's"),
        ('{"image_path": "a.jpg"}', "'labels'"),
        ('{"image_path": "a.jpg", "labels": "a0_safe"}', "labels is not a list of strings"),
        ('["image_path", "labels"]', "is not VISPR's"),
    ],
)
def test_annotations_that_are_none(root, text, words):
    (root / "annotations/test2017/2017_32.json").write_text(text)
    with pytest.raises(u2s.SetupError, match=words):
        read_split(root, "test")


def test_a_path_that_leads_out_of_the_root_counts_by_its_name_alone(root, tmp_path):
    Image.new("RGB", (40, 24)).save(tmp_path / "out.jpg")
    for path in ("../out.jpg", str(tmp_path / "out.jpg")):
        facts = {"image_path": path, "labels": ["a0_safe", "a3_height_approx"]}
        (root / "annotations/test2017/2017_31.json").write_text(json.dumps(facts))
        first = read_split(root, "test")[0]
        assert first.path == root / "test2017/out.jpg" and not first.path.exists() and not first.unsafe
    elsewhere = [f"/home/somebody/annotations/test2017/2017_{width}.json" for width in PICTURES]
    (root / "test2017.txt").write_text("\n".join(elsewhere))
    assert len(read_split(root, "test")) == 8


def test_other_places_where_the_archives_may_have_been_unpacked(root):
    expected = [(e.name, e.labels) for e in read_split(root, "test")]
    (root / "images/test2017").rename(root / "test2017")
    for path in (root / "annotations/test2017").iterdir():
        shutil.move(path, root / "test2017" / path.name)
    found = read_split(root, "test2017")
    assert [(e.name, e.labels) for e in found] == expected and all(e.path.is_file() for e in found)
    (root / "annotations/test2017").rmdir()
    for path in sorted((root / "test2017").glob("*.json")):
        (root / "annotations/test2017").mkdir(exist_ok=True)
        path.rename(root / "annotations/test2017" / path.name)
    (root / "test2017.txt").unlink()
    assert [(e.name, e.labels) for e in read_split(root, "test")] == expected


# --- resuming


@dataclass(frozen=True)
class Listening(RedSquares):
    """Counts the pictures that it is shown."""

    shown = []  # noqa: RUF012

    def detect(self, images):
        self.shown.extend(image.shape[1] for image in images)
        return super().detect(images)


def listen(root, **options):
    Listening.shown.clear()
    result = u2s.evaluate_vispr(root, profile=profile(detectors=(Listening(),)), **options)
    return result.to_json(), list(Listening.shown)


def test_what_was_answered_is_not_asked_again(root, tmp_path):
    whole, shown = listen(root, out=tmp_path / "whole.json")
    assert shown == list(PICTURES)  # once for all five questions
    out = tmp_path / "v.json"
    assert listen(root, out=out, limit=3)[1] == [31, 32, 33]
    assert listen(root, out=out) == (whole, [34, 35, 36, 37, 38])
    assert listen(root, out=out) == (whole, [])
    Image.new("RGB", (99, 24)).save(root / "images/test2017/2017_35.jpg")
    assert listen(root, out=out)[1] == [99]


@pytest.mark.parametrize("cut", [1, 40, 900, 10**6])
def test_a_line_cut_off_is_dropped(root, tmp_path, cut):
    out = tmp_path / "v.json"
    whole, _ = listen(root, out=out)
    answers = out.with_suffix(".answers.jsonl")
    lines = answers.read_bytes()
    os.truncate(answers, max(5, len(lines) - cut))
    with AnswerFile(answers, json.loads(lines.splitlines()[0])):
        assert lines.startswith(answers.read_bytes()) and answers.read_bytes().endswith(b"\n")
    again, shown = listen(root, out=out)
    assert again == whole and shown == list(PICTURES)[-len(shown) :] and answers.read_bytes() == lines


def test_answers_of_another_call_are_not_taken(root, tmp_path):
    out = tmp_path / "v.json"
    u2s.evaluate_vispr(root, profile=SCRIPTED, out=out)
    answers = out.with_suffix(".answers.jsonl")
    kept = answers.read_bytes()
    for other in ({"threshold": 0.3}, {"criteria": "people"}, {"detectors": ["faces"]}):
        with pytest.raises(u2s.SetupError, match="was made with another profile, criteria, threshold or version"):
            u2s.evaluate_vispr(root, profile=SCRIPTED, out=out, **other)
        assert answers.read_bytes() == kept
    answers.write_bytes(kept.replace(b'"answers"', b'"anwsers"', 1))
    with pytest.raises(u2s.SetupError, match=r"is damaged: 'answers'; delete it"):
        u2s.evaluate_vispr(root, profile=SCRIPTED, out=out)


def test_two_evaluations_do_not_write_one_file(tmp_path):
    path = tmp_path / "v.answers.jsonl"
    with AnswerFile(path, {}), pytest.raises(u2s.SetupError, match="another evaluation is writing"):
        AnswerFile(path, {}).__enter__()
    path.unlink()
    path.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(u2s.SetupError, match="cannot be written"):
        AnswerFile(path, {}).__enter__()


@pytest.mark.slow
def test_killed_twice_and_finished_it_is_the_same_as_never_killed(root, photos, tmp_path):
    for number, photo in enumerate(sorted(photos.rglob("*.jpg")) * 8):
        annotate(root, f"2017_9{number:02}", ["a9_face_complete"] if "people" in str(photo) else ["a0_safe"])
        shutil.copy2(photo, root / f"images/test2017/2017_9{number:02}.jpg")
    call = [sys.executable, "-m", "u2s_datasets.cli.main", "vispr", "--root", str(root), "--detectors", "faces", "-q"]
    call += ["--batch-size", "1", "--out"]
    subprocess.run([*call, tmp_path / "whole.json"], check=True)
    answers = tmp_path / "killed.answers.jsonl"
    for lines in (4, 12):
        process = subprocess.Popen([*call, tmp_path / "killed.json"])
        while process.poll() is None and (not answers.exists() or answers.read_bytes().count(b"\n") < lines):
            time.sleep(0.005)
        process.send_signal(signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL and not (tmp_path / "killed.json").exists()
    subprocess.run([*call, tmp_path / "killed.json"], check=True)
    assert (tmp_path / "killed.json").read_bytes() == (tmp_path / "whole.json").read_bytes()
    assert answers.read_bytes() == (tmp_path / "whole.answers.jsonl").read_bytes()
