"""`u2s bench`: images per second per stage, overhead over the bare detectors, peak memory.

The bare pass and the whole job run on the same files with the same worker processes; start-up is left out of
both by timing from the first answer. One figure alone means little on a shared machine; the ratio does.
"""

from __future__ import annotations

import json
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
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from u2s_datasets.cli.bench.sample_photos import PHOTOS, write_samples
from u2s_datasets.errors import SetupError
from u2s_datasets.executor.local import Workers, default_number
from u2s_datasets.executor.run import run
from u2s_datasets.parts import Detector
from u2s_datasets.sources.open import FolderSource, Item
from u2s_datasets.stages.batch import Row
from u2s_datasets.stages.profiles import Profile, profile

_MEBI = 2**20
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
    """Measure, print a table and a last line of JSON.

    Args:
        src: a folder of readable photos; those of the scikit-image package where none is given.
        rows: how many rows to measure; a folder with fewer is measured whole.
        detectors: names, instead of the profile's.
        num_proc: worker processes; one per core where none.

    Returns:
        What the JSON line holds.
    """
    if rows < 2 * _CHUNK:
        raise SetupError(f"rows={rows} is too few to time; give {2 * _CHUNK} or more")
    workers = num_proc or default_number()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(src) if src else Path(name) / "photos"
        if src is None:
            write_samples(folder, copies=-(-rows // len(PHOTOS)))
        source = FolderSource(folder, str(folder))
        items = list(source.read(0, min(rows, len(source))))
        chosen = profile(detectors=detectors).with_engine("openvino")
        facts: dict[str, Any] = {"rows": len(items), "workers": workers, "cores": os.cpu_count()}
        facts["stages"] = stage_rates(chosen, items)
        facts["bare_seconds"] = _timed(BarePass(chosen.inspect.detectors), items, workers)
        out = Path(name) / "out"
        rates = run(folder, out, detectors=detectors, limit=len(items), num_proc=workers)["rates"]
        facts["whole_seconds"] = rates["seconds"] - rates["seconds_to_first_rows"]
        facts["images_per_second"] = len(items) / rates["seconds"]
        facts["whole_over_bare"] = facts["whole_seconds"] / facts["bare_seconds"]
        facts |= _peak()
        shutil.rmtree(out)
    _print(facts)
    print(json.dumps(facts))
    return facts


def versus(command: str, src: str | None = None, rows: int = 64, rounds: int = 3) -> dict[str, Any]:
    """Time a separately installed face anonymizer against this program, faces only, whole commands in turn.

    Args:
        command: the other program with its options, such as "deface"; it gets a folder's files as arguments.
        src: a folder of readable photos; those of the scikit-image package where none is given.
        rows: how many photos.
        rounds: how often each command is run; the ratios are medians over the rounds.

    Returns:
        What the JSON line holds: seconds per round, and our images per second over the other's.

    Raises:
        SetupError: the other command is not there or fails.
    """
    words = shlex.split(command)
    if not words or shutil.which(words[0]) is None:
        raise SetupError(f"there is no command {command!r}; install it in an environment of its own and give its path")
    ours = [sys.executable, "-m", "u2s_datasets.cli.main", "anonymize"]
    seconds: dict[str, list[float]] = {"other": [], "verified": [], "unverified": []}
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        files = _copy_of(src, rows, root)
        for n in range(rounds):
            shutil.copytree(root / "in", root / f"other{n}")
            seconds["other"].append(_command([*words, *(str(root / f"other{n}" / f) for f in files)]))
            for kind, option in (("verified", []), ("unverified", ["--no-verify"])):
                out = ["--out", str(root / f"{kind}{n}"), "--detectors", "faces", "-q", *option]
                seconds[kind].append(_command([*ours, str(root / "in"), *out]))
    ratios = {k: statistics.median(o / s for o, s in zip(seconds["other"], seconds[k], strict=True)) for k in seconds}
    facts = {"command": command, "rows": len(files), "seconds": seconds, "times_as_fast": ratios}
    print(f"faces only, {len(files)} photos, {rounds} rounds, images per second over those of {command!r}:")
    print(f"  with verification {ratios['verified']:.2f}, without {ratios['unverified']:.2f}")
    print(json.dumps(facts))
    return facts


def _copy_of(src: str | None, rows: int, root: Path) -> list[str]:
    if src is None:
        write_samples(root / "samples", copies=-(-rows // len(PHOTOS)))
    source = FolderSource(Path(src) if src else root / "samples", src or "samples")
    (root / "in").mkdir()
    names = []
    for n, file in enumerate(source.files[:rows]):
        names.append(f"{n:06d}{Path(file).suffix}")
        shutil.copyfile(source.root / file, root / "in" / names[-1])
    return names


def _command(words: list[str]) -> float:
    start = time.monotonic()
    result = subprocess.run(words, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, check=False)
    if result.returncode:
        raise SetupError(f"{words[0]!r} failed with {result.returncode}: {result.stderr.strip()[-300:]}")
    return time.monotonic() - start


def stage_rates(chosen: Profile, items: Sequence[Item]) -> dict[str, float]:
    """Images per second of each stage alone, in this process, on one core."""
    seconds = dict.fromkeys(("decode", "inspect", "caption", "instruct", "anonymize", "score"), 0.0)
    steps = {name: getattr(chosen, name) for name in ("inspect", "caption", "instruct", "anonymize", "score")}
    steps["inspect"].run([Row(items[0].image, {})])  # loads the models
    for chunk in _chunks(items):
        rows = [Row(item.image, {}) for item in chunk]
        seconds["decode"] += _seconds(_decode, rows)
        for name, step in steps.items():
            seconds[name] += _seconds(step.run, rows)
    return {name: round(len(items) / spent, 2) for name, spent in seconds.items()}


def _timed(work: Any, items: Sequence[Item], workers: int) -> float:
    """Seconds from the first chunk's answer to the last's."""
    pool: Workers = Workers(work, lambda item: 0, workers)
    first = None
    for _ in pool.map((None, chunk) for chunk in _chunks(items)):
        first = first or time.monotonic()
    return time.monotonic() - (first or 0.0)


def _decode(rows: Sequence[Row]) -> None:
    for row in rows:
        row.array  # noqa: B018  decoding is what is timed


def _seconds(call: Callable[[Sequence[Row]], None], rows: Sequence[Row]) -> float:
    start = time.perf_counter()
    call(rows)
    return time.perf_counter() - start


def _chunks(items: Sequence[Item]) -> Iterator[list[Item]]:
    for start in range(0, len(items), _CHUNK):
        yield list(items[start : start + _CHUNK])


def _peak() -> dict[str, float]:
    kilo = 1 if platform.system() == "Darwin" else 1024
    return {
        f"peak_mib_{name}": round(resource.getrusage(who).ru_maxrss * kilo / _MEBI, 1)
        for name, who in (("main", resource.RUSAGE_SELF), ("worker", resource.RUSAGE_CHILDREN))
    }


def _print(facts: dict[str, Any]) -> None:
    print(f"{facts['rows']} images, {facts['workers']} workers of one thread, {facts['cores']} cores")
    for name, rate in facts["stages"].items():
        print(f"  {name:10} {rate:9.1f} images/s on one core")
    print(f"  whole job  {facts['images_per_second']:9.1f} images/s with start-up and reports")
    print(f"  whole job / bare pass of each detector: {facts['whole_over_bare']:.2f} (start-up of both left out)")
    print(f"  peak memory: {facts['peak_mib_main']:.0f} MiB main, {facts['peak_mib_worker']:.0f} MiB largest worker")
