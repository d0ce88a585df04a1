"""The folder of a finished run, written row by row without running anything, with what is private planted in it."""

from __future__ import annotations

import hashlib
import io
import json
import re
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import skimage.data
from PIL import Image

from u2s_datasets import columns as c
from u2s_datasets.evaluation.report.report import write_reports
from u2s_datasets.runs.writer import Output

NAMES = ("astronaut", "coffee", "chelsea", "rocket", "page", "text", "brick")
HOSTILE = "<script>alert(1)</script>"
PRIVATE_WORDS = (
    "holiday-in-nowhere",
    "NOTE-4711",
    "PRIVATE-CAPTION-4711",
    "OCR-SECRET-4711",
    "REASON-4711",
    "918273645",
)


def photo(name: str) -> Image.Image:
    image = Image.fromarray(getattr(skimage.data, name)()).convert("RGB")
    image.thumbnail((256, 256))
    return image


def encoded(image: Image.Image) -> bytes:
    file = io.BytesIO()
    image.save(file, "PNG", compress_level=1)
    return file.getvalue()


def row(i: int, status: str, **values: Any) -> dict[str, Any]:
    """One row with everything private planted in it."""
    box = (60.0, 10.0, 110.0, 90.0)
    item = c.review_item("face", "OCR-SECRET-4711" + HOSTILE, "REASON-4711", box, 0.98)
    attempts = [{"strength": 0}] if status == c.ANONYMIZED else []
    return {
        c.ROW_ID: hashlib.sha256(str(i).encode()).hexdigest()[:32],
        c.SOURCE: f"holiday-in-nowhere/{NAMES[i % 7]}-{i}{HOSTILE}.jpg",
        c.STATUS: status,
        c.REASON: "residue" if status == c.WITHHELD else None,
        c.NOTE: "NOTE-4711: still readable" if status == c.WITHHELD else None,
        c.SEED: 918273645 + i,
        c.PRIVACY_FLAG: status != c.SAFE,
        c.PRIVACY_SCORE: 0.123456789,
        c.PRIVACY_REVIEW: [] if status == c.SAFE else [item],
        c.PRIVATE_CAPTION: "PRIVATE-CAPTION-4711 shows Jane",
        c.PUBLIC_CAPTION: f"a calm scene, {NAMES[i % 7]}",
        c.EDIT_INSTRUCTION: "hide the face",
        c.EDIT_CAPTION: "a calm scene without a face",
        c.PROVENANCE: json.dumps({"editor": "Redact", "attempts": attempts, "verified": True}),
        c.ANONYMIZED_IMAGE: {"bytes": encoded(photo(NAMES[i % 7])), "path": None},
        c.SSIM: None if status == c.WITHHELD else 1.0 if status == c.SAFE else 0.901234 + 0.0037 * (i % 20),
        c.RESIDUAL_FACES: None if status == c.WITHHELD else 0,
        c.RESIDUAL_TEXT: None if status == c.WITHHELD else 0,
    } | values


def mixed(n: int = 21) -> list[dict[str, Any]]:
    pattern = (c.ANONYMIZED, c.SAFE, c.SAFE, c.ANONYMIZED, c.WITHHELD, c.ANONYMIZED, c.SAFE)
    return [row(i, pattern[i % 7]) for i in range(n)]


def write_shards(folder: Path, rows: list[dict[str, Any]], names: tuple[str, ...], size: int = 8) -> None:
    folder.mkdir(parents=True)
    schema = c.features(names).arrow_schema
    for k, start in enumerate(range(0, len(rows), size)):
        shard = [{name: r.get(name) for name in names} for r in rows[start : start + size]]
        pq.write_table(pa.Table.from_pylist(shard, schema), folder / f"part-{k:05d}.parquet")


def build(out: Path, rows: list[dict[str, Any]], /, **run: Any) -> Path:
    """The folder of a finished run; `run` overrides run.json."""
    write_shards(out / "private" / "rows", rows, c.PRIVATE)
    public = sorted((r for r in rows if r[c.STATUS] != c.WITHHELD), key=lambda r: r[c.ROW_ID])
    write_shards(out / "data", public, c.PUBLIC)
    counts = {s: sum(r[c.STATUS] == s for r in rows) for s in c.STATUSES}
    plain = {
        "rows": len(rows),
        **counts,
        "skipped": {"text file (.txt)": 3},
        "verified": True,
        "profile": "cpu",
        "inspected_criteria": ["faces", "printed text"],
        "not_inspected": ["licence plates", "tattoos"],
        "configuration": {"seed": 918273645, "source": "/home/jane/holiday-in-nowhere", "editor": {"part": "Redact"}},
        "versions": {"datasets": "5.2.0"},
        "rates": {"rows_per_second": 77.125},
    }
    (out / "run.json").write_text(json.dumps(plain | run))
    (out / "private" / "lock").touch()
    return out


def write_pages(out: Path, *arguments: Any, **more: Any) -> None:
    """Both report pages of such a folder."""
    with Output(out) as output:
        write_reports(output, *arguments, **more)


def originals(source: str) -> Image.Image | None:
    return photo(re.findall(r"/(\w+)-", source)[0])
