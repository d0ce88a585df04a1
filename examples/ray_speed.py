"""What a second worker brings with Ray, beside what a second plain process brings, in the same minutes, three times.

    python examples/ray_speed.py 2000 3

Needs the ray extra. Every worker computes with one thread; start-up is left out: rates count from the first rows on.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

import u2s_datasets as u2s
from u2s_datasets.cli.bench.sample_photos import write_samples

DETECTORS = ["faces"]


def main(rows: int, rounds: int) -> None:
    """Measure and print, as JSON: rows per second and speed-ups of each round, and the median share."""
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        write_photos(root, rows)
        found = [measured(root, root / f"round{n}") for n in range(rounds)]
    shares = [one["share"] for one in found]
    print(json.dumps({"rows": rows, "rounds": found, "median_share": statistics.median(shares)}, indent=1))


def measured(root: Path, out: Path) -> dict[str, Any]:
    """One round: one and two plain processes, one and two workers of Ray."""
    load = os.getloadavg()[0]
    speeds = {
        "one process": processes(root, ["all"], out),
        "one Ray worker": ray(root, 1, out),
        "two processes": processes(root, ["half0", "half1"], out),
        "two Ray workers": ray(root, 2, out),
    }
    plain = speeds["two processes"] / speeds["one process"]
    with_ray = speeds["two Ray workers"] / speeds["one Ray worker"]
    return {
        "load_before": round(load, 1),
        "rows_per_second": {name: round(speed, 2) for name, speed in speeds.items()},
        "speed_up_of_processes": round(plain, 3),
        "speed_up_with_ray": round(with_ray, 3),
        "share": round(with_ray / plain, 3),
    }


def write_photos(root: Path, rows: int) -> None:
    """So many different photos of 480 pixels, whole and in two halves."""
    write_samples(root / "samples")
    arrays = []
    for path in sorted(p for p in (root / "samples").rglob("*") if p.is_file()):
        with Image.open(path) as image:
            picture = image.convert("RGB")
            picture.thumbnail((480, 480))
            arrays.append(np.asarray(picture))
    for i in range(rows):
        picture = Image.fromarray(np.roll(arrays[i % len(arrays)], i % 97, axis=1))
        for name in ("all", f"half{i % 2}"):
            (root / name).mkdir(exist_ok=True)
            picture.save(root / name / f"{i:06d}.jpg", quality=90)


def processes(root: Path, names: list[str], out: Path) -> float:
    """Rows per second of one plain process per folder, all at once."""
    call = [sys.executable, __file__, "--alone"]
    running = [
        subprocess.Popen([*call, root / name, out / f"plain{len(names)}_{name}"], stdout=subprocess.PIPE)
        for name in names
    ]
    return sum(speed(json.loads(process.communicate()[0]), first=4) for process in running)


def alone(src: str, out: str) -> None:
    """What a plain process does: a run by itself."""
    print(json.dumps(u2s.run(src, out, detectors=DETECTORS, num_proc=1)["rates"]))


def ray(root: Path, workers: int, out: Path) -> float:
    """Rows per second of so many workers on a Ray that is already up."""
    from u2s_datasets.executor.ordering import LONGEST
    from u2s_datasets.executor.ray import connected

    with connected():
        facts = u2s.run(root / "all", out / f"ray{workers}", detectors=DETECTORS, ray=True, num_proc=workers)
    print(json.dumps(facts["rates"]), file=sys.stderr)
    return speed(facts["rates"], first=LONGEST * workers)


def speed(rates: dict[str, Any], first: int) -> float:
    """Rows per second from the first rows on.

    Args:
        rates: of a run.
        first: rows that are done when the first ones are told: a chunk, or a block for every worker.
    """
    return (rates["rows"] - first) / (rates["seconds"] - rates["seconds_to_first_rows"])


if __name__ == "__main__":
    words = sys.argv[1:]
    if words[:1] == ["--alone"]:
        alone(*words[1:])
    elif len(words) in (1, 2) and all(word.isdecimal() and int(word) for word in words):
        main(*map(int, [*words, 1][:2]))
    else:
        sys.exit("usage: python examples/ray_speed.py ROWS [ROUNDS], each 1 or more")
