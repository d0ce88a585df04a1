"""The whole job on a folder: counts, layout, resuming after kills, and what must never be in the output."""

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

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from datasets import ClassLabel, Dataset, Features, Image, load_dataset
from hostile import write_hostile
from parts import picture

import u2s_datasets as u2s
from u2s_datasets import columns as c
from u2s_datasets import images
from u2s_datasets.evaluation.report.report import rewrite_reports
from u2s_datasets.runs.identity import row_id

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
    faces = u2s.Faces()
    assert [d for d in faces.detect([_array(face)])[0] if d.score >= faces.residue_threshold] == []


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
    """`kill -9` of the whole run at 20 random moments, started again each time; a run that ends in time is compared."""
    folder = tmp_path / "many"
    for copy in range(6):
        shutil.copytree(photos, folder / str(copy))
    (tmp_path / "key").write_text("0123456789abcdef" * 4)
    call = [sys.executable, "-m", "u2s_datasets.cli.main", "anonymize", str(folder), "--secret", str(tmp_path / "key")]
    options = ["--shard-size", "3", "-q", "--detectors", "faces", "--out"]

    def start(out: str) -> subprocess.Popen:
        return subprocess.Popen([*call, *options, str(tmp_path / out)])

    began = time.monotonic()
    assert start("whole").wait() == 0
    seconds = time.monotonic() - began
    moments, kills, finished = random.Random(0), 0, 0
    while kills < 20:
        process = start(f"killed{finished}")
        try:
            assert process.wait(moments.uniform(0.0, seconds)) == 0
            finished += 1
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGKILL)
            process.wait()
            kills += 1
    assert start(f"killed{finished}").wait() == 0
    for n in range(finished + 1):
        assert files_of(tmp_path / f"killed{n}") == files_of(tmp_path / "whole")
        assert not (tmp_path / f"killed{n}/private/tmp").exists()


def test_a_finished_run_is_not_done_again_and_another_call_refuses(red_folder, tmp_path):
    first = u2s.run(red_folder, tmp_path / "out", **QUICK)
    again = u2s.run(red_folder, tmp_path / "out", **QUICK)
    assert again["rates"]["rows"] == 0
    assert {k: v for k, v in again.items() if k != "rates"} == {k: v for k, v in first.items() if k != "rates"}
    with pytest.raises(u2s.SetupError, match=r"another configuration \(seed 0 -> 5\); repeat that call"):
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
    from datasets import List

    return List(datasets_value("float32"))


def datasets_value(kind):
    from datasets import Value

    return Value(kind)


def test_run_json_holds_no_seed_and_no_path(red_folder, tmp_path):
    (tmp_path / "key").write_text("0123456789abcdef" * 4)
    u2s.run(red_folder, tmp_path / "out", seed=918273645, secret=tmp_path / "key", limit=3, **QUICK)
    text = (tmp_path / "out/run.json").read_text()
    assert "918273645" not in text and '"seed"' not in text
    assert str(tmp_path) not in text and str(red_folder) not in text
    assert "918273645" in (tmp_path / "out/private/manifest.json").read_text()


def test_a_run_is_resumed_from_another_working_folder(red_folder, tmp_path, monkeypatch):
    monkeypatch.chdir(red_folder)
    first = u2s.run(".", tmp_path / "out", limit=5, **QUICK)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "link").symlink_to(red_folder)
    for src in (red_folder, "link", f"../{tmp_path.name}/link"):
        again = u2s.run(src, "out", limit=5, **QUICK)
        assert again["rates"]["rows"] == 0 and again["configuration"] == first["configuration"]


def test_reports_are_written_again_without_asking_the_hub(tmp_path, monkeypatch):
    import datasets

    monkeypatch.setattr(datasets, "load_dataset", lambda name, **_: pytest.fail(f"asked the Hub for {name!r}"))
    (tmp_path / "fam/alice").mkdir(parents=True)
    picture(red=True).save(tmp_path / "fam/alice/a.png")
    Dataset.from_dict({"image": [{"bytes": images.encode(picture(), "png"), "path": None}]}).cast_column(
        "image", Image()
    ).save_to_disk(tmp_path / "fam/saved")
    page = Path("private/report.html")
    for name in ("alice", "saved"):
        monkeypatch.chdir(tmp_path)
        out = tmp_path / f"out_{name}"
        u2s.run(f"fam/{name}", out, **QUICK)
        before = (out / page).read_bytes()
        monkeypatch.chdir("/")
        rewrite_reports(out)
        assert (out / page).read_bytes() == before
        (tmp_path / "fam" / name).rename(tmp_path / "fam/elsewhere")
        rewrite_reports(out)
        assert (out / page).read_bytes() != before and b"original not available" in (out / page).read_bytes()
        (tmp_path / "fam/elsewhere").rename(tmp_path / "fam" / name)


def test_a_kept_text_does_not_name_its_own_file(tmp_path):
    folder = tmp_path / "in"
    folder.mkdir()
    for name in ("zoe_birthday", "12", "brick"):
        picture().save(folder / f"{name}.png")
    lines = (
        "file_name,origin,scene",
        "zoe_birthday.png,zoe_birthday,garden",
        "12.png,12 chairs,no",
        "brick.png,x,wall",
    )
    (folder / "metadata.csv").write_text("\n".join(lines) + "\n")
    facts = u2s.run(folder, tmp_path / "a", keep=["origin", "scene"], **QUICK)
    assert facts["kept_texts_withheld"] == 1
    rows = {(row["origin"], row["scene"]) for row in public_rows(tmp_path / "a")}
    assert rows == {(None, "garden"), ("12 chairs", "no"), ("x", "wall")}

    value = {"bytes": images.encode(picture(), "png"), "path": "C:\\photos\\zoe.png"}
    features = Features({"image": Image(), "scene": datasets_value("string")})
    ds = Dataset.from_dict({"image": [value] * 2, "scene": ["Zoe in a garden", "a garden"]}, features=features)
    ds.to_parquet(tmp_path / "rows.parquet")
    u2s.run(tmp_path / "rows.parquet", tmp_path / "b", keep=["scene"], **QUICK)
    assert {row["scene"] for row in public_rows(tmp_path / "b")} == {None, "a garden"}


def test_strings_that_are_no_paths_are_rows_that_are_withheld(tmp_path):
    pq.write_table(pa.table({"image": ["A" * 5000, "a\0b", "/" + "b/" * 4000, ""]}), tmp_path / "rows.parquet")
    facts = u2s.run(tmp_path / "rows.parquet", tmp_path / "out", **QUICK)
    assert facts["withheld"] == facts["rows"] == 4


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
        (".", {"limit": 0}, "limit=0: give a whole number, 1 or more"),
        (".", {"limit": "3"}, "limit='3': give a whole number, 1 or more"),
        (".", {"limit": 2.5}, "limit=2.5: give a whole number, 1 or more"),
        (".", {"seed": "x"}, "seed='x': give a whole number"),
        (".", {"profile_name": ["cpu"]}, r"unknown profile \['cpu'\]; use one of: cpu"),
        (".", {"detectors": "face"}, "unknown detector 'face'; use one of: faces, text"),
        (".", {"detectors": u2s.Faces()}, "detectors=.*: give a list of names"),
        (".", {"editor": u2s.Redact}, "editor <class .*Redact'> is no name; use one of: redact"),
        (".", {"keep": "caption"}, "metadata.csv"),
        (".", {"keep": 7}, "keep=7: give a list of names"),
        (".", {"allow": "label"}, "allow='label' is no kept column"),
        (".", {"num_proc": -1}, "num_proc=-1"),
        (".", {"keep": ["caption"]}, "metadata.csv"),
        (".", {"allow": ["label"]}, "allow='label' is no kept column"),
        (".", {"secret": "missing"}, "cannot read the secret 'missing'"),
    ],
)
def test_bad_calls_name_the_value_and_the_remedy_before_any_work(
    red_folder, tmp_path, src, options, words, monkeypatch
):
    monkeypatch.chdir(red_folder)
    with pytest.raises(u2s.SetupError, match=words):
        u2s.run(src, tmp_path / "out", **options)
    assert not list((tmp_path / "out").glob("data/*"))


def test_a_table_without_rows_is_refused_as_an_empty_folder_is(tmp_path):
    empty = Dataset.from_dict({"image": []}, features=Features({"image": Image()}))
    source = tmp_path / "empty.parquet"
    empty.to_parquet(source)
    with pytest.raises(u2s.SetupError, match=r"empty.parquet' holds no row; give a source with images"):
        u2s.run(source, tmp_path / "out", **QUICK)


def test_one_name_is_one_name(red_folder, tmp_path):
    facts = u2s.run(red_folder, tmp_path / "out", detectors="parts:RedSquares", keep="label", dry_run=True)
    assert facts["configuration"]["kept_columns"] == ["label"]


def _array(decoded):
    import numpy as np

    return np.asarray(decoded.pixels)
