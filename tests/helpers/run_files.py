"""What a run left on the disk, as tests compare it."""

import hashlib
import json
from pathlib import Path

import pyarrow.parquet as pq

from u2s_datasets.runs.files import json_bytes
from u2s_datasets.runs.seal import BOUND, file_digest, sealed

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


def seal_again(out: Path) -> None:
    """Bind the files of a run as they lie there now, as if a run had written them so."""
    path = out / "private/manifest.json"
    files = {name: file_digest(out, name) for name in BOUND}
    path.write_bytes(json_bytes(sealed(json.loads(path.read_text()), files)))


def unseal(out: Path) -> None:
    """Make an output of a run look like one of a version that bound no files."""
    path = out / "private/manifest.json"
    path.write_bytes(json_bytes(sealed(json.loads(path.read_text()), None)))
