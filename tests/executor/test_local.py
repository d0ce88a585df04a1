"""Processes that die, cannot start or cannot load their models: what a run makes of them."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

import u2s_datasets as u2s
from tests.helpers.fakes import some_pictures
from u2s_datasets.errors import MissingWeights
from u2s_datasets.executor.local import Workers


@dataclass(frozen=True)
class Double:
    """Doubles numbers, once it is prepared; dies of 13."""

    fault: Exception | None = None

    def prepare(self) -> None:
        if self.fault is not None:
            raise self.fault
        os.environ["U2S_TEST_PREPARED"] = "yes"

    def __call__(self, items: Sequence[int]) -> list[tuple[int, int, str | None]]:
        if 13 in items:
            os._exit(9)
        return [(2 * i, os.getpid(), os.environ.get("U2S_TEST_PREPARED")) for i in items]


def double(numbers: Sequence[int], workers: int, here: bool = False, fault: Exception | None = None) -> list:
    pool: Workers = Workers(Double(fault), lambda item: (0, 0, None), workers, here)
    return [answer for _, answers in pool.map(("key", [n]) for n in numbers) for answer in answers]


@pytest.mark.parametrize("workers", [1, 3])
def test_processes_are_prepared_before_they_work(workers):
    answers = double(range(8), workers)
    assert [a for a, _, _ in answers] == list(range(0, 16, 2))
    assert {prepared for _, _, prepared in answers} == {"yes"}
    assert os.getpid() not in {pid for _, pid, _ in answers}


def test_work_in_this_process_is_prepared_too(monkeypatch):
    monkeypatch.setenv("U2S_TEST_PREPARED", "no")
    assert double([1, 2], 1, here=True) == [(2, os.getpid(), "yes"), (4, os.getpid(), "yes")]


def test_a_row_may_kill_the_only_worker():
    assert [a for a, _, _ in double([1, 13, 2], 1)] == [2, 0, 4]
    assert [a for a, _, _ in double([13], 4)] == [0]


@dataclass(frozen=True)
class Killed(Double):
    """Is killed, as the kernel does where memory runs out, of every 13 or of the first one alone."""

    once: Path | None = None

    def __call__(self, items: Sequence[int]) -> list[tuple[int, int, str | None]]:
        if 13 in items and not (self.once and self.once.exists()):
            if self.once:
                self.once.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return super().__call__([0 if i == 13 else i for i in items])


def test_a_row_whose_process_is_killed_with_memory_to_spare_is_tried_alone_before_it_is_blamed(tmp_path):
    for once, answer in ((None, -1), (tmp_path / "once", 0)):
        pool: Workers = Workers(Killed(once=once), lambda item: (-1, 0, None), 2)
        answers = [a for _, found in pool.map(("key", [n]) for n in (1, 13, 2)) for a, _, _ in found]
        assert answers == [2, answer, 4] and pool.number == 2


def test_where_memory_is_short_fewer_do_it_and_one_alone_ends_the_map(tmp_path, monkeypatch):
    monkeypatch.setattr("u2s_datasets.executor.local.WORKER_BYTES", 2**60)  # no machine has as much left
    pool: Workers = Workers(Killed(once=tmp_path / "once"), lambda item: pytest.fail("blamed"), 4)
    assert [a for _, found in pool.map(("key", [n]) for n in (1, 13, 2)) for a, _, _ in found] == [2, 0, 4]
    assert pool.number == 2
    pool = Workers(Killed(), lambda item: pytest.fail("blamed"), 4)
    with pytest.raises(u2s.SetupError, match=r"one worker alone runs out of memory \(.*=[\d.]+ GiB\).*--num-proc 1"):
        list(pool.map(("key", [n]) for n in (1, 13, 2)))


@pytest.mark.parametrize("here", [False, True])
def test_a_setup_error_of_a_worker_keeps_its_type_and_words(here):
    with pytest.raises(MissingWeights, match=r"^zebra is missing$"):
        double([1, 2, 3], 2, here, MissingWeights("zebra is missing"))


def test_any_other_fault_of_a_start_is_a_setup_error():
    with pytest.raises(u2s.SetupError, match="a worker cannot start: RuntimeError: driver says no"):
        double([1], 2, fault=RuntimeError("driver says no"))


def test_nothing_is_started_for_no_work():
    assert double([], 2, fault=MissingWeights("zebra")) == double([], 1, True, MissingWeights("zebra")) == []


def test_the_default_uses_processes_even_for_one_row(tmp_path):
    folder = some_pictures(tmp_path / "in", blue=(0,), number=1)
    facts = u2s.run(folder, tmp_path / "out", detectors=["tests.helpers.fakes:Touchy"])
    assert facts["reasons"] == {"worker_died": 1}
    assert u2s.run(folder, tmp_path / "out", detectors=["tests.helpers.fakes:Touchy"])["rates"]["rows"] == 0


def test_the_default_uses_a_process_where_there_is_memory_for_one(tmp_path, monkeypatch):
    monkeypatch.setattr("u2s_datasets.executor.run.default_number", lambda on_gpu: 1)
    facts = u2s.run(
        some_pictures(tmp_path / "in", blue=(2,)), tmp_path / "out", detectors=["tests.helpers.fakes:Touchy"]
    )
    assert (facts["reasons"], facts["rows"], facts["rates"]["workers"]) == ({"worker_died": 1}, 4, 1)


def test_workers_end_when_their_parent_is_killed(tmp_path, photos):
    call = [
        sys.executable,
        "-m",
        "u2s_datasets.cli.main",
        "anonymize",
        str(photos),
        "--out",
        str(tmp_path / "out"),
        "-q",
    ]
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
