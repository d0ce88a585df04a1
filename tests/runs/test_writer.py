"""The output folder: whose it is, what a damaged or half-written one becomes, and who may read what."""

import fcntl
import json
import os
import re
import shutil
import stat
from pathlib import Path

import pytest
from datasets import Features, Value

import u2s_datasets as u2s
from tests.helpers.fakes import picture
from tests.helpers.run_files import QUICK, files_of, private_rows, public_rows
from u2s_datasets import columns as c
from u2s_datasets import images
from u2s_datasets.evaluation.evaluate import evaluate_run
from u2s_datasets.evaluation.report.report import rewrite_reports
from u2s_datasets.executor.pipeline import Pipeline
from u2s_datasets.review.decisions import apply_reviews, decide
from u2s_datasets.runs.identity import row_id
from u2s_datasets.runs.manifest import locate_rows
from u2s_datasets.runs.writer import Output, check_apart
from u2s_datasets.sources.base import Item
from u2s_datasets.stages.profiles import profile

SHARDS = {**QUICK, "shard_size": 2}


@pytest.fixture(scope="module")
def six(tmp_path_factory) -> Path:
    """Six small pictures, two with a red square."""
    folder = tmp_path_factory.mktemp("six")
    for i in range(6):
        picture(red=i in (1, 4), seed=i).save(folder / f"img{i}.png")
    return folder


@pytest.fixture(scope="module")
def finished(six, tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("finished") / "out"
    u2s.run(six, out, **SHARDS)
    return out


@pytest.fixture
def out(finished, tmp_path) -> Path:
    """A copy of a finished run of three shards, to be damaged."""
    return Path(shutil.copytree(finished, tmp_path / "out"))


def names(folder: Path) -> list[str]:
    return sorted(str(p.relative_to(folder)) for p in folder.rglob("*"))


def test_a_second_run_into_the_same_folder_refuses(six, tmp_path):
    out = tmp_path / "out"
    (out / "private").mkdir(parents=True)
    with (out / "private/lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(u2s.SetupError, match="another run is writing"):
            u2s.run(six, out, **QUICK)
    assert u2s.run(six, out, **QUICK)["rows"] == 6


@pytest.mark.parametrize(
    "files",
    [
        ["thesis.tex"],
        ["private/tmp/wedding.jpg"],
        ["private/diary.txt", "private/lock"],
        ["private/manifest.json"],
        ["private/secret"],
        ["private/rows/part-00000.parquet", "data/part-00000.parquet"],
        ["private/lock", "data/thesis.csv"],
        ["private/lock", "private/rows/thesis.parquet"],
        ["private"],
        ["data/part-00000.parquet"],
    ],
    ids=str,
)
def test_a_folder_of_somebody_else_is_left_alone(six, tmp_path, files):
    mine = tmp_path / "mine"
    for name in files:
        (mine / name).parent.mkdir(parents=True, exist_ok=True)
        (mine / name).write_text("[1]")
    before = names(mine)
    with pytest.raises(u2s.SetupError, match="is not empty"):
        u2s.run(six, mine, **QUICK)
    assert names(mine) == before


@pytest.mark.parametrize("name", ["private", "data", "private/rows", "private/tmp"])
def test_links_in_place_of_folders_are_refused(six, out, tmp_path, name):
    (out / "private/tmp").mkdir()
    (out / name).rename(tmp_path / "elsewhere")
    (out / name).symlink_to(tmp_path / "elsewhere")
    before = names(tmp_path)
    with pytest.raises(u2s.SetupError, match=f"{name}, which is not a folder"):
        u2s.run(six, out, **SHARDS)
    assert names(tmp_path) == before


@pytest.mark.parametrize(
    "plan",
    [
        '{"remove": ["../photo.png"], "place": {}}',
        '{"remove": ["private/secret"], "place": {}}',
        '{"remove": [], "place": {"data-part-00000.parquet": "../planted.parquet"}}',
        '{"remove": [], "place": {"../secret": "run.json"}}',
        '{"remove": [], "place": {"link": "data/part-00000.parquet"}}',
        '{"remove": [], "place": {}}',
        '{"remove": [7], "place": {}}',
        "[]",
        "no plan",
    ],
)
def test_a_change_that_names_foreign_files_is_refused(six, out, tmp_path, plan):
    (tmp_path / "photo.png").write_bytes(b"precious")
    (out / "private/next").mkdir()
    (out / "private/next/data-part-00000.parquet").write_bytes(b"planted")
    (out / "private/next/link").symlink_to(tmp_path / "photo.png")
    (out / "private/next/plan.json").write_text(plan)
    before = files_of(tmp_path)
    with pytest.raises(u2s.SetupError, match=r"private/next/plan\.json' .*remove private/next and repeat the same"):
        u2s.run(six, out, **SHARDS)
    assert files_of(tmp_path) == before


def test_a_change_that_is_a_link_is_refused(six, out, tmp_path):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere/plan.json").write_text('{"remove": ["run.json"], "place": {}}')
    (out / "private/next").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(u2s.SetupError, match=r"private/next' is not a folder"):
        u2s.run(six, out, **SHARDS)
    assert (out / "run.json").exists() and (tmp_path / "elsewhere/plan.json").exists()


def test_source_and_output_do_not_lie_in_each_other(six, out, tmp_path):
    with pytest.raises(u2s.SetupError, match=r"output .* lies inside the source"):
        u2s.run(six, six / "out", **QUICK)
    with pytest.raises(u2s.SetupError, match=r"source .* lies inside the output"):
        u2s.run(out / "data", out, **QUICK)
    (tmp_path / "link").symlink_to(out)
    with pytest.raises(u2s.SetupError, match=r"source .* lies inside the output"):
        u2s.run(out / "data/part-00000.parquet", tmp_path / "link", **QUICK)
    check_apart(six, out)


def reject_all(out):
    decide(out, dict.fromkeys(locate_rows(out), "reject"), "ada")
    apply_reviews(out)


@pytest.mark.parametrize(
    ("name", "remedy"),
    [
        ("private/rows/part-00001.parquet", "repeat the same `u2s anonymize` command"),
        ("data/part-00001.parquet", "repeat the same `u2s anonymize` command"),
        ("private/manifest.json", "restore a copy of it, or anonymize again into a new folder"),
        ("run.json", "`u2s anonymize`"),
    ],
)
@pytest.mark.parametrize("read", [evaluate_run, rewrite_reports, reject_all])
def test_a_damaged_file_is_named_with_what_mends_it(out, name, remedy, read):
    data = (out / name).read_bytes()
    for junk in (data[: len(data) // 2], b"junk" * 99):
        (out / name).write_bytes(junk)
        with pytest.raises(u2s.SetupError, match=f"{Path(name).name}.*{remedy}"):
            read(out)


@pytest.mark.parametrize(
    ("key", "change", "says"),
    [
        ("configuration", {"seed": 4}, "configuration (seed 4 -> 0); repeat that call to resume it, or"),
        ("configuration", {"shard_size": 9, "seed": 4}, "configuration (seed 4 -> 0, shard_size 9 -> 2)"),
        ("configuration", {"parts": ["/home/me"]}, "configuration (parts); repeat that call"),
        ("configuration", {"code": "f00"}, "version of u2s_datasets or a library (code); resume with that version"),
        ("versions", {"numpy": "1.0"}, "version of u2s_datasets or a library (numpy 1.0 -> "),
    ],
)
def test_a_folder_of_another_call_says_what_differs(six, out, key, change, says):
    path = out / "private/manifest.json"
    manifest = json.loads(path.read_text())
    path.write_text(json.dumps(manifest | {key: manifest[key] | change}))
    with pytest.raises(u2s.SetupError, match=re.escape(f"was made with another {says}")) as raised:
        u2s.run(six, out, **SHARDS)
    assert "/home/me" not in str(raised.value)


def test_run_json_is_gone_where_the_report_does_not_add_up(six, tmp_path, monkeypatch):
    monkeypatch.setattr("u2s_datasets.evaluation.report.run_rows.RunRows.check", _disagree)
    with pytest.raises(u2s.U2SError, match="data/ holds"):
        u2s.run(six, tmp_path / "out", **QUICK)
    assert not (tmp_path / "out/run.json").exists()


def _disagree(*_):
    raise u2s.U2SError("data/ holds too much")


@pytest.mark.parametrize("status", [None, "unsafe"])
def test_only_rows_of_a_known_status_are_written(tmp_path, status):
    row = dict.fromkeys([*c.PUBLIC, *c.PRIVATE]) | {"kept": {}, "kept_emptied": {}, c.STATUS: status}
    with Output(tmp_path / "out") as output:
        output.resume({"source": "x"})
        with pytest.raises(u2s.U2SError, match="rows of unknown status"):
            output.add_shard([], 0, [row], {})
        assert private_rows(tmp_path / "out") == public_rows(tmp_path / "out") == []


def test_kept_columns_named_like_our_own_do_not_clash(tmp_path):
    kept = {"kept": "one", "kept_texts_withheld": 70, "row_id": "mine", "reason_code": "none"}
    pipeline = Pipeline(
        profile(detectors=["tests.helpers.fakes:RedSquares"]),
        b"0123456789abcdef",
        allow=["kept", "row_id", "reason_code"],
    )
    (row,) = pipeline([Item("a.png", images.encode(picture(), "png"), kept)])
    features = Features({name: Value("int32" if name == "kept_texts_withheld" else "string") for name in kept})
    done: list[dict] = []
    with Output(tmp_path / "out") as output:
        output.resume({"source": "x"})
        output.add_shard(done, 0, [row], features)
    assert (done[0].kept_emptied, done[0].reasons) == ({}, {})
    (public,), (private,) = public_rows(tmp_path / "out"), private_rows(tmp_path / "out")
    assert list(public) == [*c.PUBLIC, "kept", "kept_texts_withheld", "reason_code"]
    assert (public["kept"], public["kept_texts_withheld"]) == ("one", 70)
    assert public["row_id"] == private["row_id"] == row_id(b"0123456789abcdef", "a.png")


@pytest.mark.parametrize("umask", [0o000, 0o077])
def test_private_files_are_their_owners_whatever_the_umask(six, tmp_path, umask):
    old = os.umask(umask)
    try:
        u2s.run(six, tmp_path / "out", **QUICK)
    finally:
        os.umask(old)
    private = tmp_path / "out/private"
    modes = {p.name: stat.S_IMODE(p.stat().st_mode) for p in private.rglob("*") if p.is_file()}
    assert set(modes) == {"lock", "secret", "manifest.json", "report.html", "part-00000.parquet"}
    assert set(modes.values()) == {0o600}
    assert stat.S_IMODE(private.stat().st_mode) == 0o700


def test_a_forgotten_secret_leaves_no_stray_key(six, tmp_path):
    (tmp_path / "key").write_text("0123456789abcdef" * 4)
    u2s.run(six, tmp_path / "out", secret=tmp_path / "key", **QUICK)
    with pytest.raises(u2s.SetupError, match="another secret"):
        u2s.run(six, tmp_path / "out", **QUICK)
    assert not (tmp_path / "out/private/secret").exists()
    assert u2s.run(six, tmp_path / "out", secret=tmp_path / "key", **QUICK)["rates"]["rows"] == 0
