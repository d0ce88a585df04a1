"""What a run left on the disk, as tests compare it."""

import hashlib
import json
from pathlib import Path

import pyarrow.parquet as pq

QUICK = {"detectors": ["tests.helpers.fakes:RedSquares"], "num_proc": 1}


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
