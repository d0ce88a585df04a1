"""Law 7, a killed run resumes: shards written whole, and the same bytes after any number of kills."""

import contextlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from datetime import UTC, datetime
from pathlib import Path

import pytest

import u2s_datasets as u2s
from tests.helpers.fakes import picture
from tests.helpers.published_run import ABOUT
from tests.helpers.run_files import QUICK, files_of, public_rows
from tests.helpers.slow import mostly_slow
from u2s_datasets import columns as c
from u2s_datasets.review import audit
from u2s_datasets.review.decisions import decide
from u2s_datasets.runs.writer import Output

ROOT = Path(__file__).parents[2]
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


def test_a_killed_run_goes_on_and_ends_in_the_same_bytes(six, tmp_path):
    (tmp_path / "key").write_text("0123456789abcdef" * 4)
    slow, killed = "tests.helpers.fakes:Slow", tmp_path / "killed"
    call = [sys.executable, "-m", "u2s_datasets.cli.main", "anonymize", str(six), "--secret", str(tmp_path / "key")]
    options = ["--detectors", slow, "--num-proc", "1", "--shard-size", "2", "-q", "--out", str(killed)]
    process = subprocess.Popen([*call, *options], env={**os.environ, "PYTHONPATH": str(ROOT)})
    deadline = time.monotonic() + 120
    while not list((killed / "private/rows").glob("*.parquet")) and time.monotonic() < deadline:
        time.sleep(0.02)
    process.kill()
    process.wait()
    assert not (killed / "run.json").exists()
    for out, rows in ((killed, {2, 4, 6}), (tmp_path / "whole", {6})):
        run = u2s.run(six, out, secret=tmp_path / "key", detectors=[slow], num_proc=1, shard_size=2)
        assert run["rates"]["rows"] in rows
    assert files_of(killed) == files_of(tmp_path / "whole")


@pytest.mark.slow
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


def test_a_kill_before_the_lock_is_there_leaves_a_folder_that_can_be_used(six, tmp_path):
    (tmp_path / "out/private").mkdir(parents=True)
    assert u2s.run(six, tmp_path / "out", **QUICK)["rows"] == 6


@pytest.mark.parametrize("half", ["data", "private/rows"])
@pytest.mark.parametrize("damage", ["removed", "truncated", "exchanged"])
def test_a_missing_or_changed_file_is_made_anew(six, finished, out, half, damage):
    path = out / half / "part-00001.parquet"
    if damage == "removed":
        path.unlink()
    elif damage == "truncated":
        path.write_bytes(path.read_bytes()[:100])
        with pytest.raises(
            u2s.U2SError, match=r"cannot read '.*part-00001.parquet'; repeat the same `u2s anonymize` command"
        ):
            u2s.report(out)
    else:
        shutil.copy(out / half / "part-00002.parquet", path)
    assert u2s.run(six, out, **SHARDS)["rates"]["rows"] == 2
    assert files_of(out) == files_of(finished)


def test_files_of_no_shard_are_removed(six, finished, out):
    for half in ("data", "private/rows"):
        shutil.copy(out / half / "part-00001.parquet", out / half / "part-00077.parquet")
    assert u2s.run(six, out, **SHARDS)["rates"]["rows"] == 0
    assert files_of(out) == files_of(finished)


def test_rows_withheld_after_a_kill_do_not_stay_public(six, tmp_path, monkeypatch):
    options = {"detectors": ["tests.helpers.fakes:Moody"], "num_proc": 1}
    u2s.run(six, tmp_path / "out", **options)
    manifest = tmp_path / "out/private/manifest.json"
    manifest.write_text(json.dumps({**json.loads(manifest.read_text()), "shards": []}))  # killed after the renames
    monkeypatch.setenv("U2S_TEST_MOOD", "bad")
    assert u2s.run(six, tmp_path / "out", **options)["withheld"] == 6
    assert public_rows(tmp_path / "out") == []


def test_run_json_is_gone_while_shards_are_missing(six, out, monkeypatch):
    (out / "data/part-00001.parquet").unlink()

    def killed(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(Output, "add_shard", killed)
    with pytest.raises(KeyboardInterrupt):
        u2s.run(six, out, **SHARDS)
    assert not [p for p in ("run.json", "report.html", "private/report.html") if (out / p).exists()]


class _Cut:
    """Stops a process at its nth change to the file system, as a kill would."""

    def __init__(self, monkeypatch, at: int) -> None:
        self.left = at
        for name in ("replace", "rename", "unlink"):
            monkeypatch.setattr(Path, name, self._counted(getattr(Path, name)))

    def _counted(self, change):
        def counted(*words, **options):
            self.left -= 1
            if self.left < 0:
                raise KeyboardInterrupt
            return change(*words, **options)

        return counted


def _rejected(out: Path) -> None:
    decide(out, {public_rows(out)[0][c.ROW_ID]: "reject"}, by="ada", at=datetime(2026, 11, 20, tzinfo=UTC))


def _audited(out: Path) -> None:
    audit.draw(out, 6, seed=1, by="ada")


@pytest.mark.parametrize("change", mostly_slow([_rejected, _audited], _audited))
def test_a_decision_that_is_cut_at_any_moment_was_taken_or_not_and_the_run_can_be_pushed(
    change, six, out, tmp_path, monkeypatch
):
    states, cuts = [], 0
    while True:
        run = Path(shutil.copytree(out, tmp_path / f"cut{cuts}"))
        with monkeypatch.context() as patch:
            cut = _Cut(patch, cuts)
            with contextlib.suppress(KeyboardInterrupt):
                change(run)
        plan = u2s.push_to_hub(run, "org/x", dry_run=True, **ABOUT)
        assert set(plan.reasons) <= {"unresolved"}, plan.reasons
        shards = json.loads((run / "private/manifest.json").read_text())["shards"]
        states.append((set(plan.reasons), sum(one["rows"] for one in shards), sum(one["withheld"] for one in shards)))
        cuts += 1
        if cut.left >= 0:
            break
    assert cuts > 5 and states[0] != states[-1]
    assert [state for state in states if state not in (states[0], states[-1])] == []


def test_a_run_that_is_cut_while_it_finishes_is_mended_by_the_same_command(six, tmp_path, monkeypatch):
    out = tmp_path / "out"
    u2s.run(six, out, **SHARDS)
    whole = files_of(out)
    for name in ("run.json", "report.html"):
        (out / name).unlink()
    for at in range(4):
        with monkeypatch.context() as patch:
            _Cut(patch, at)
            with contextlib.suppress(KeyboardInterrupt):
                u2s.run(six, out, **SHARDS)
        u2s.run(six, out, **SHARDS)
        assert files_of(out) == whole
        assert u2s.push_to_hub(out, "org/x", dry_run=True, **ABOUT).reasons == {}
