"""The whole job on a folder: counts, layout, resuming after kills, and what must never be in the output."""

import fcntl
import hashlib
import json
import random
import shutil
import signal
import stat
import subprocess
import sys
import time
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from datasets import ClassLabel, Dataset, Features, Image, load_dataset
from hostile import write_hostile
from parts import picture

import u2s_datasets as u2s
from u2s_datasets import columns as c
from u2s_datasets import images
from u2s_datasets.output import row_id

QUICK = {"detectors": ["parts:RedSquares"], "num_proc": 1}


def private_rows(out: Path) -> list[dict]:
    return [row for f in sorted((out / "private/rows").glob("*.parquet")) for row in pq.read_table(f).to_pylist()]


def public_rows(out: Path) -> list[dict]:
    return [row for f in sorted((out / "data").glob("*.parquet")) for row in pq.read_table(f).to_pylist()]


def files_of(out: Path) -> dict[str, str]:
    """Every file but the rates in run.json and the lock, by digest."""
    found = {}
    for path in sorted(p for p in out.rglob("*") if p.is_file() and p.name != "lock"):
        data = path.read_bytes()
        if path.name == "run.json":
            data = json.dumps({k: v for k, v in json.loads(data).items() if k != "rates"}).encode()
        found[str(path.relative_to(out))] = hashlib.sha256(data).hexdigest()
    return found


@pytest.fixture(scope="module")
def red_folder(tmp_path_factory) -> Path:
    """Forty small pictures in two class folders, every third with a red square."""
    folder = tmp_path_factory.mktemp("red")
    for i in range(40):
        path = folder / ("zoe" if i % 2 else "anna") / f"holiday_{i:02d}.png"
        path.parent.mkdir(exist_ok=True)
        picture(red=i % 3 == 0, seed=i).save(path)
    return folder


@pytest.fixture(scope="module")
def demo(tmp_path_factory, photos) -> Path:
    """The default pipeline on the nine real photos, with the default workers."""
    out = tmp_path_factory.mktemp("demo") / "safe"
    u2s.run(photos, out, keep=["label"], shard_size=4)
    return out


def test_counts_and_layout(demo):
    facts = json.loads((demo / "run.json").read_text())
    assert facts["rows"] == 9 == facts["safe"] + facts["anonymized"] + facts["withheld"]
    assert facts["withheld"] == 0
    assert facts["inspected_criteria"] and facts["not_inspected"]
    assert {p.name for p in demo.iterdir()} == {"data", "private", "run.json", "report.html"}
    assert stat.S_IMODE((demo / "private").stat().st_mode) == 0o700
    assert {p.name for p in (demo / "private").iterdir()} == {"rows", "secret", "lock", "manifest.json", "report.html"}
    assert len(private_rows(demo)) == 9
    assert stat.S_IMODE((demo / "private/secret").stat().st_mode) == 0o600


def test_the_output_opens_as_a_dataset_with_images_and_labels(demo, tmp_path):
    ds = load_dataset("parquet", data_files=str(demo / "data/*.parquet"), split="train", cache_dir=str(tmp_path))
    assert isinstance(ds.features[c.ANONYMIZED_IMAGE], Image)
    assert ds.features["label"] == ClassLabel(names=["papers", "people", "things"])
    assert ds.column_names == [*c.PUBLIC, "label"]
    assert {image.mode for image in ds[c.ANONYMIZED_IMAGE]} == {"RGB"}


def test_faces_and_words_are_gone_and_things_are_flagged_as_they_should(demo):
    by_source = {row[c.SOURCE]: row for row in private_rows(demo)}
    assert by_source["people/astronaut.jpg"][c.STATUS] == c.ANONYMIZED
    assert by_source["papers/page_scan.png"][c.STATUS] == c.ANONYMIZED
    assert by_source["things/brick.png"][c.STATUS] == c.SAFE
    published = {row[c.ROW_ID]: row[c.ANONYMIZED_IMAGE]["bytes"] for row in public_rows(demo)}
    face = images.decode(published[by_source["people/astronaut.jpg"][c.ROW_ID]])
    assert u2s.Faces().detect([_array(face)]) == [[]]


def test_nothing_published_points_back(demo, photos):
    originals = {p.read_bytes() for p in photos.rglob("*") if p.is_file()}
    secret = (demo / "private/secret").read_bytes()
    names = [p.name.encode() for p in photos.rglob("*.*")]
    for path in [*(demo / "data").iterdir(), demo / "report.html", demo / "run.json"]:
        data = path.read_bytes()
        assert not [n for n in [*names, str(photos).encode(), secret.strip(), b"Demo Camera"] if n in data]
    for row in public_rows(demo):
        stored = row[c.ANONYMIZED_IMAGE]
        assert stored["path"] is None
        assert images.metadata_in(stored["bytes"]) == []
        assert stored["bytes"] not in originals
        assert set(row) == {*c.PUBLIC, "label"}
    assert images.decode(public_rows(demo)[0][c.ANONYMIZED_IMAGE]).pixels.size


def test_row_ids_are_keyed_and_public_rows_are_ordered_by_them(demo):
    key = (demo / "private/secret").read_bytes().strip()
    for row in private_rows(demo):
        assert row[c.ROW_ID] == row_id(key, row[c.SOURCE])
        assert row[c.ROW_ID] != row_id(b"another secret key", row[c.SOURCE])
    for file in (demo / "data").iterdir():
        ids = pq.read_table(file)[c.ROW_ID].to_pylist()
        assert ids == sorted(ids)


def test_same_secret_same_bytes_for_any_number_of_workers(red_folder, tmp_path):
    (tmp_path / "key").write_text("0123456789abcdef" * 4)
    runs = []
    for name, workers in (("one", 1), ("three", 3)):
        options = {**QUICK, "num_proc": workers, "secret": tmp_path / "key", "shard_size": 16}
        u2s.run(red_folder, tmp_path / name, **options)
        runs.append(files_of(tmp_path / name))
    assert runs[0] == runs[1]
    assert not (tmp_path / "one/private/secret").exists()


def test_twenty_kills_change_nothing(tmp_path, photos):
    """`kill -9` of the whole run at random moments, started again each time until it is done."""
    folder = tmp_path / "many"
    for copy in range(8):
        shutil.copytree(photos, folder / str(copy))
    (tmp_path / "key").write_text("0123456789abcdef" * 4)
    fixed = ["--secret", str(tmp_path / "key"), "--shard-size", "3", "-q", "--detectors", "faces"]

    def command(out: str) -> list[str]:
        return [
            sys.executable,
            "-m",
            "u2s_datasets.cli",
            "anonymize",
            str(folder),
            "--out",
            str(tmp_path / out),
            *fixed,
        ]

    start = time.monotonic()
    subprocess.run(command("whole"), check=True)
    whole = time.monotonic() - start
    moments = random.Random(0)
    kills = 0
    for _ in range(20):
        process = subprocess.Popen(command("killed"))
        try:
            process.wait(moments.uniform(0.0, whole))
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGKILL)
            process.wait()
            kills += 1
    subprocess.run(command("killed"), check=True)
    assert kills >= 5
    assert files_of(tmp_path / "killed") == files_of(tmp_path / "whole")
    assert not (tmp_path / "killed/private/tmp").exists()


def test_a_second_run_into_the_same_folder_refuses(red_folder, tmp_path):
    out = tmp_path / "out"
    (out / "private").mkdir(parents=True)
    with (out / "private/lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(u2s.SetupError, match="another run is writing"):
            u2s.run(red_folder, out, **QUICK)
    assert u2s.run(red_folder, out, **QUICK)["rows"] == 40


def test_a_finished_run_is_not_done_again_and_another_call_refuses(red_folder, tmp_path):
    first = u2s.run(red_folder, tmp_path / "out", **QUICK)
    again = u2s.run(red_folder, tmp_path / "out", **QUICK)
    assert again["rates"]["rows"] == 0
    assert {k: v for k, v in again.items() if k != "rates"} == {k: v for k, v in first.items() if k != "rates"}
    with pytest.raises(u2s.SetupError, match="another configuration"):
        u2s.run(red_folder, tmp_path / "out", **QUICK, seed=5)
    with pytest.raises(u2s.SetupError, match="another source and"):
        other = tmp_path / "one"
        other.mkdir()
        picture().save(other / "a.png")
        u2s.run(other, tmp_path / "out", **QUICK)


def test_hostile_files_are_processed_right_or_withheld_with_their_reason(tmp_path):
    folder = tmp_path / "hostile"
    folder.mkdir()
    expected = write_hostile(folder)
    (folder / "notes.txt").write_text("no image")
    (folder / "video.mp4").write_bytes(b"\0\0\0 ftypisom")
    facts = u2s.run(folder, tmp_path / "out", detectors=["faces"], shard_size=10)
    by_source = {row[c.SOURCE]: row for row in private_rows(tmp_path / "out")}
    assert set(by_source) == set(expected)
    assert facts["rows"] == len(expected) == facts["safe"] + facts["anonymized"] + facts["withheld"]
    assert facts["skipped"] == {".mp4 file": 1, ".txt file": 1}
    for name, code in expected.items():
        row = by_source[name]
        assert (row[c.REASON] or "ok") == code, (name, row[c.NOTE])
        assert (row[c.STATUS] == c.WITHHELD) == (code != "ok")
    published = {row[c.ROW_ID] for row in public_rows(tmp_path / "out")}
    assert published == {r[c.ROW_ID] for r in by_source.values() if r[c.STATUS] != c.WITHHELD}
    for row in public_rows(tmp_path / "out"):
        assert images.metadata_in(row[c.ANONYMIZED_IMAGE]["bytes"]) == []


def test_a_row_that_kills_its_worker_is_withheld_and_the_others_are_done(tmp_path):
    folder = tmp_path / "in"
    folder.mkdir()
    for i in range(12):
        picture(red=i % 2 == 0, corner=(0, 0, 255) if i in (3, 7) else None, seed=i).save(folder / f"{i:02d}.png")
    facts = u2s.run(folder, tmp_path / "out", detectors=["parts:Touchy"], num_proc=2)
    assert facts["reasons"] == {"worker_died": 2}
    assert (facts["safe"], facts["anonymized"], facts["withheld"]) == (4, 6, 2)
    dead = [row[c.SOURCE] for row in private_rows(tmp_path / "out") if row[c.STATUS] == c.WITHHELD]
    assert dead == ["03.png", "07.png"]


def test_workers_end_when_their_parent_is_killed(tmp_path, photos):
    call = [sys.executable, "-m", "u2s_datasets.cli", "anonymize", str(photos), "--out", str(tmp_path / "out"), "-q"]
    process = subprocess.Popen(call, start_new_session=True)
    group = process.pid
    deadline = time.monotonic() + 60
    while _alive(group) < 3 and time.monotonic() < deadline:
        time.sleep(0.1)
    process.kill()
    process.wait()
    while _alive(group) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert _alive(group) == 0


def test_parquet_and_saved_datasets(tmp_path):
    values = [{"bytes": images.encode(picture(red=i == 1), "png"), "path": "/home/zoe/secret.png"} for i in range(3)]
    data = {"photo": values, "objects": [[1.0, 2.0]] * 3}
    ds = Dataset.from_dict(data, features=Features({"photo": Image(), "objects": Features({"o": ds_list()})["o"]}))
    ds.to_parquet(tmp_path / "rows.parquet")
    ds.save_to_disk(tmp_path / "saved")
    for name, src in (("a", "rows.parquet"), ("b", "saved")):
        facts = u2s.run(tmp_path / src, tmp_path / name, keep=["objects"], **QUICK)
        assert (facts["safe"], facts["anonymized"]) == (2, 1)
        rows = public_rows(tmp_path / name)
        assert [row["objects"] for row in rows] == [[1.0, 2.0]] * 3
        assert b"zoe" not in (tmp_path / name / "data/part-00000.parquet").read_bytes()
        assert (tmp_path / name / "private/report.html").read_text().count("data:image") >= 2


def ds_list():
    from datasets import List, Value

    return List(Value("float32"))


def test_dry_run_writes_nothing(red_folder, tmp_path):
    facts = u2s.run(red_folder, tmp_path / "out", dry_run=True, limit=7, **QUICK)
    assert facts["rows"] == 7
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("src", "options", "words"),
    [
        ("nowhere", {}, "'nowhere'.*ORG/NAME"),
        (".", {"profile_name": "best"}, "unknown profile 'best'; use one of: cpu"),
        (".", {"editor": "magic"}, "unknown editor 'magic'; use one of: redact"),
        (".", {"detectors": ["ears"]}, "unknown detector 'ears'; use one of: faces, text"),
        (".", {"format": "gif"}, "'gif'"),
        (".", {"limit": 0}, "limit=0 is below 1"),
        (".", {"num_proc": -1}, "num_proc=-1"),
        (".", {"keep": ["caption"]}, "metadata.csv"),
        (".", {"allow": ["label"]}, "allow='label' is no kept column"),
        (".", {"secret": "missing"}, "'missing' cannot be read"),
    ],
)
def test_bad_calls_name_the_value_and_the_remedy_before_any_work(
    red_folder, tmp_path, src, options, words, monkeypatch
):
    monkeypatch.chdir(red_folder)
    with pytest.raises(u2s.SetupError, match=words):
        u2s.run(src, tmp_path / "out", **options)
    assert not list((tmp_path / "out").glob("data/*"))


def test_an_output_that_holds_something_else_is_left_alone(red_folder, tmp_path):
    (tmp_path / "thesis.tex").write_text("three years of work")
    with pytest.raises(u2s.SetupError, match=r"thesis\.tex"):
        u2s.run(red_folder, tmp_path, **QUICK)
    with pytest.raises(u2s.SetupError, match="lies inside the source"):
        u2s.run(red_folder, red_folder / "out", **QUICK)
    assert [p.name for p in tmp_path.iterdir()] == ["thesis.tex"]


def _array(decoded):
    import numpy as np

    return np.asarray(decoded.pixels)


def _alive(group: int) -> int:
    """Processes of a session that are not zombies."""
    count = 0
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                fields = (entry / "stat").read_text().rsplit(")", 1)[1].split()
            except OSError:
                continue
            count += fields[3] == str(group) and fields[0] != "Z"
    return count
