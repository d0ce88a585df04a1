"""`u2s bench`: images per second per stage, overhead over the bare detectors, peak memory.

The bare pass and the whole job run on the same files with the same worker processes; start-up is left out of
both by timing from the first answer. One figure alone means little on a shared machine; the ratio does.
"""

import os
import platform
import resource
import shlex
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
import timeit
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from u2s_datasets.cli.bench.sample_photos import open_photos
from u2s_datasets.errors import SetupError
from u2s_datasets.executor.local import Workers, default_number
from u2s_datasets.executor.run import run
from u2s_datasets.parts import Detector
from u2s_datasets.sources.base import Item
from u2s_datasets.stages.batch import Row
from u2s_datasets.stages.profiles import Profile, profile

_CHUNK = 8


@dataclass(frozen=True)
class BarePass:
    """What a worker does when it only decodes and detects."""

    detectors: tuple[Detector, ...]

    def __call__(self, items: Sequence[Item]) -> list[int]:
        """Items to the number of detections in each."""
        arrays = [Row(item.image, {}).array for item in items]
        found = [detector.detect(arrays) for detector in self.detectors]
        return [sum(len(lists[i]) for lists in found) for i in range(len(items))]


def bench(
    src: str | None = None, rows: int = 64, detectors: Sequence[str] | None = None, num_proc: int | None = None
) -> dict[str, Any]:
    """Measure and print a table.

    Args:
        src: a folder of readable photos; None for those of the scikit-image package.
        rows: how many rows to measure, 16 or more; a folder with fewer is measured whole.
        detectors: names, instead of the profile's.
        num_proc: worker processes; None for one per core.

    Returns:
        What was measured.

    Raises:
        SetupError: too few rows.
    """
    if rows < 2 * _CHUNK:
        raise SetupError(f"rows={rows} is too few to time; give {2 * _CHUNK} or more")
    workers = num_proc or default_number()
    with open_photos(src, rows) as source, tempfile.TemporaryDirectory() as out:
        items = list(source.read(0, rows))
        chosen = profile(detectors=detectors).with_engine("openvino")
        facts: dict[str, Any] = {"rows": len(items), "workers": workers, "cores": os.cpu_count()}
        facts["stages"] = stage_rates(chosen, items)
        facts["bare_seconds"] = _bare_seconds(BarePass(chosen.inspect.detectors), items, workers)
        rates = run(source.root, out, detectors=detectors, limit=len(items), num_proc=workers)["rates"]
    facts["whole_seconds"] = rates["seconds"] - rates["seconds_to_first_rows"]
    facts["images_per_second"] = len(items) / rates["seconds"]
    facts["whole_over_bare"] = facts["whole_seconds"] / facts["bare_seconds"]
    unit = 2**20 if platform.system() == "Darwin" else 2**10  # macOS counts bytes, Linux KiB
    for name, who in (("main", resource.RUSAGE_SELF), ("worker", resource.RUSAGE_CHILDREN)):
        facts[f"peak_mib_{name}"] = round(resource.getrusage(who).ru_maxrss / unit, 1)
    _print(facts)
    return facts


def stage_rates(chosen: Profile, items: Sequence[Item]) -> dict[str, float]:
    """Images per second of each stage alone, in this process, on one core."""
    steps: dict[str, Callable[[list[Row]], Any]] = {"decode": lambda rows: [row.array for row in rows]}
    steps |= {n: getattr(chosen, n).run for n in ("inspect", "caption", "instruct", "anonymize", "score")}
    steps["inspect"]([Row(items[0].image, {})])  # loads the models, before anything is timed
    seconds = dict.fromkeys(steps, 0.0)
    for chunk in _chunks(items):
        rows = [Row(item.image, {}) for item in chunk]
        for name, step in steps.items():
            seconds[name] += timeit.timeit(partial(step, rows), number=1)
    return {name: round(len(items) / spent, 2) for name, spent in seconds.items()}


def _bare_seconds(work: BarePass, items: Sequence[Item], workers: int) -> float:
    """Seconds from the first chunk's answer to the last's."""
    pool: Workers = Workers(work, lambda item: 0, workers)
    times = [time.monotonic() for _ in pool.map((None, chunk) for chunk in _chunks(items))]
    return time.monotonic() - times[0]


def _chunks(items: Sequence[Item]) -> list[Sequence[Item]]:
    return [items[start : start + _CHUNK] for start in range(0, len(items), _CHUNK)]


def _print(facts: dict[str, Any]) -> None:
    print(f"{facts['rows']} images, {facts['workers']} workers of one thread, {facts['cores']} cores")
    for name, rate in facts["stages"].items():
        print(f"  {name:10} {rate:9.1f} images/s on one core")
    print(f"  whole job  {facts['images_per_second']:9.1f} images/s with start-up and reports")
    print(f"  whole job / bare pass of each detector: {facts['whole_over_bare']:.2f} (start-up of both left out)")
    print(f"  peak memory: {facts['peak_mib_main']:.0f} MiB main, {facts['peak_mib_worker']:.0f} MiB largest worker")


def versus(command: str, src: str | None = None, rows: int = 64, rounds: int = 3) -> dict[str, Any]:
    """Time a separately installed face anonymizer against this program, faces only, whole commands in turn.

    Args:
        command: the other program with its options, such as "deface"; it gets a folder's files as arguments.
        src: a folder of readable photos; None for those of the scikit-image package.
        rows: how many photos.
        rounds: how often each command is run; the ratios are medians over the rounds.

    Returns:
        Seconds per round, and our images per second over the other's.

    Raises:
        SetupError: the other command is not installed or fails.
    """
    theirs = shlex.split(command)
    if not theirs or shutil.which(theirs[0]) is None:
        raise SetupError(f"unknown command {command!r}; install it in an environment of its own and give its path")
    ours = [sys.executable, "-m", "u2s_datasets.cli.main", "anonymize"]
    seconds: dict[str, list[float]] = {"other": [], "verified": [], "unverified": []}
    with open_photos(src, rows) as source, tempfile.TemporaryDirectory() as name:
        root, photos = Path(name), source.files[:rows]
        (root / "in").mkdir()
        for number, file in enumerate(photos):
            shutil.copyfile(source.root / file, root / "in" / f"{number:06d}{Path(file).suffix}")
        for n in range(rounds):
            # The other program writes beside the files that it is given, so each round has a fresh copy.
            copy = Path(shutil.copytree(root / "in", root / f"other{n}"))
            seconds["other"].append(_command_seconds([*theirs, *map(str, sorted(copy.iterdir()))]))
            for kind, option in (("verified", []), ("unverified", ["--no-verify"])):
                out = ["--out", str(root / f"{kind}{n}"), "--detectors", "faces", "-q", *option]
                seconds[kind].append(_command_seconds([*ours, str(root / "in"), *out]))
    ratios = {k: statistics.median(o / s for o, s in zip(seconds["other"], seconds[k], strict=True)) for k in seconds}
    print(f"faces only, {len(photos)} photos, {rounds} rounds, images per second over those of {command!r}:")
    print(f"  with verification {ratios['verified']:.2f}, without {ratios['unverified']:.2f}")
    return {"command": command, "rows": len(photos), "seconds": seconds, "times_as_fast": ratios}


def _command_seconds(words: list[str]) -> float:
    start = time.monotonic()
    result = subprocess.run(words, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, check=False)
    if result.returncode:
        raise SetupError(f"{words[0]!r} failed with {result.returncode}: {result.stderr.strip()[-300:]}")
    return time.monotonic() - start
