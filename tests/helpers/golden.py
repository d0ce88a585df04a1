"""What the package writes, byte for byte, at two commits: `python tests/helpers/golden.py 1e7fca2` compares with now.

Everything that a user gets is made twice, from the working tree and from a checkout of the other commit, in two
processes on this machine with this environment, and compared: a run with real detectors (every file, both halves and
both report pages), its evaluation, a run of parquet with kept columns, a run with a scripted model, the columns of
`.map`, what a push would send, and the help texts. Only what names the code or the clock is taken out.
"""

from __future__ import annotations

import contextlib
import difflib
import io
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from datetime import UTC, datetime
from pathlib import Path

REPOSITORY = Path(__file__).parents[2]
DIGEST = re.compile(rb'("(?:code|foreign_code)": )("[0-9a-f]{16}"|\[[^]]*\])')
CLOCK = re.compile(rb'"(seconds[a-z_]*|rows_per_second|busy)": [0-9.e-]+')


def write_source(folder: Path) -> Path:
    """Photos from the scikit-image wheel, two of them with EXIF, and files that are none."""
    import skimage.data
    from PIL import Image, ImageDraw

    stored = Path(skimage.data.__file__).parent
    folder.mkdir(parents=True)
    for name in ("astronaut.png", "coffee.png", "chelsea.png", "page.png", "camera.png", "rocket.jpg"):
        with Image.open(stored / name) as image:
            picture = image.convert("RGB")
        exif = Image.Exif()
        exif[0x0112] = 6 if name == "coffee.png" else 1  # orientation: turned by 90 degrees
        place = folder / ("people" if name.startswith("a") else "things") / f"{Path(name).stem}_holiday.jpg"
        place.parent.mkdir(exist_ok=True)
        picture.save(place, quality=92, exif=exif)
    sign = Image.new("RGB", (320, 200), "white")
    ImageDraw.Draw(sign).text((20, 60), "Margaret Hollis\n12 Orchard Road", fill="black", font_size=30)
    sign.save(folder / "sign.png")
    (folder / "broken.jpg").write_bytes((folder / "things" / "coffee_holiday.jpg").read_bytes()[:3000])
    (folder / "empty.png").write_bytes(b"")
    (folder / "notes.txt").write_text("no picture")
    for path in folder.rglob("*"):
        os.utime(path, (10**9, 10**9))  # the modification time is bound in the manifest
    return folder


def write_parquet(source: Path, path: Path) -> Path:
    """The same photos as a table with labels, boxes' counts and texts."""
    from datasets import ClassLabel, Dataset, Features, Image, Value

    files = sorted(source.rglob("*holiday.jpg"))
    rows = {
        "image": [{"bytes": file.read_bytes(), "path": file.name} for file in files],
        "label": [i % 2 for i in range(len(files))],
        "width": [640 + i % 3 for i in range(len(files))],
        "words": ["a person in a suit", "call 555-0173 now", "coffee on a table", "a cat", "holiday", "a page"],
    }
    types = {"image": Image(), "label": ClassLabel(names=["cat", "dog"]), "width": Value("int32")}
    Dataset.from_dict(rows, Features(types | {"words": Value("string")})).to_parquet(path)
    os.utime(path, (10**9, 10**9))
    return path


def record(folder: Path) -> None:
    """Write everything that is compared below `folder / "out"`."""
    import u2s_datasets as u2s

    out = folder / "out"
    out.mkdir(parents=True)
    secret = folder / "secret"
    secret.write_bytes(bytes(range(32)))
    source = write_source(folder / "source")
    common = {"seed": 7, "secret": secret, "num_proc": 1, "shard_size": 4}
    u2s.run(source, out / "run", **common)
    table = write_parquet(source, folder / "table.parquet")
    u2s.run(
        table,
        out / "kept",
        keep=["label", "width", "words"],
        allow=["words"],
        detectors=["faces"],
        editor="solid",
        **common,
    )
    _record_mapped(table, out)
    _record_push(u2s, out)
    _record_review(u2s, out)
    commands = ("anonymize", "report", "eval", "compare", "push", "vispr", "profiles", "doctor", "bench", "fiftyone")
    for words in ([], *([name] for name in commands)):
        _command(out / "help" / f"{'_'.join(words) or 'u2s'}.txt", [*words, "--help"])
    _command(out / "profiles.txt", ["profiles"])
    _command(out / "dry_run.txt", ["anonymize", str(source), "--out", str(out / "none"), "--dry-run"])
    _command(out / "eval.txt", ["eval", str(out / "run")])
    _command(out / "compare.txt", ["compare", str(out / "run"), str(out / "run")])
    _command(out / "wrong.txt", ["anonymize", str(source), "--out", str(out / "run"), "--seed", "8"])


def _record_mapped(table: Path, out: Path) -> None:
    from datasets import load_dataset

    import u2s_datasets as u2s

    data = load_dataset("parquet", data_files=str(table), split="train", cache_dir=str(out.parent / "cache"))
    mapped = data.map(u2s.anonymize, batched=True, batch_size=3).map(u2s.score, batched=True, batch_size=3)
    mapped.remove_columns("image").to_parquet(out / "mapped.parquet")
    told = data.map(_told(u2s), batched=True, batch_size=4)
    told.remove_columns("image").to_parquet(out / "told.parquet")
    (out / "mapped.html").write_text(u2s.report(mapped).to_html(private=True))
    (out / "mapped.md").write_text(u2s.report(mapped).to_markdown(private=True))


def _told(u2s: object) -> object:
    """The five steps with a model that says what it is told."""
    review = "PRIVACY_REVIEW\nITEM: name tag\nCATEGORY: text\nREASON: names Ada"
    said = f"{review}\n\nPRIVATE_CAPTION\nAda Lovelace at a desk.\n\nPUBLIC_CAPTION\nA person at a desk."
    answers = (("You decide", "PRIVACY_FLAG: TRUE"), ("You prepare", said), (".", "A person with a round hat."))
    says = u2s.Scripted(answers)  # type: ignore[attr-defined]
    inspect = u2s.Inspect(backend=says, method="generate")  # type: ignore[attr-defined]
    caption, instruct = u2s.Caption(backend=says), u2s.Instruct(backend=says)  # type: ignore[attr-defined]
    return u2s.Anonymize(inspect=inspect, caption=caption, instruct=instruct)  # type: ignore[attr-defined]


def _record_push(u2s: object, out: Path) -> None:
    about = {"license": "cc-by-4.0", "source_dataset": "org/photos", "source_license": "cc-by-4.0", "dry_run": True}
    for name in ("run", "kept"):
        plan = u2s.push_to_hub(out / name, "org/photos-safe", allow=["text"] + ["words"] * (name == "kept"), **about)  # type: ignore[attr-defined]
        shown = {"reasons": plan.reasons, "files": plan.files, "columns": plan.columns, "rows": plan.sample}
        (out / f"push_{name}.json").write_text(json.dumps(shown, indent=1, default=str))
        (out / f"push_{name}.md").write_text(plan.card or "")


def _record_review(u2s: object, out: Path) -> None:
    """Reject one published row of each run, apply, and write the reports again."""
    import pyarrow.parquet as pq

    from u2s_datasets.review.decisions import decide

    for name in ("run", "kept"):
        row = pq.read_table(sorted((out / name / "data").glob("*.parquet"))[0], columns=["row_id"])["row_id"][0].as_py()
        shutil.copytree(out / name, out / f"{name}_reviewed")
        decide(out / f"{name}_reviewed", {row: "reject"}, "ada", datetime(2026, 11, 20, 16, tzinfo=UTC))
        u2s.apply_reviews(out / f"{name}_reviewed")  # type: ignore[attr-defined]


def _command(path: Path, words: list[str]) -> None:
    """Run one command of `u2s` and keep its exit status and what it printed."""
    place = "u2s_datasets.cli" if Path("u2s_datasets/cli.py").exists() else "u2s_datasets.cli.main"
    program = f"import sys; from {place} import main; sys.exit(main())"
    path.parent.mkdir(exist_ok=True)
    done = subprocess.run(
        [sys.executable, "-c", f"import sys; sys.argv[0] = 'u2s'; {program}", *words],
        capture_output=True,
        text=True,
        env={**os.environ, "COLUMNS": "100", "PYTHONPATH": str(Path.cwd())},
    )
    path.write_text(f"{done.returncode}\n{done.stdout}\n{done.stderr}")


def normalized(data: bytes, place: Path) -> bytes:
    """A file's bytes without the code's digest, the clock and the folder that it was made in."""
    data = data.replace(str(place).encode(), b"PLACE")
    for digest in set(DIGEST.findall((place / "out/run/run.json").read_bytes())):
        data = data.replace(digest[1].strip(b'"'), b"DIGEST")
    return CLOCK.sub(rb'"\1": 0', DIGEST.sub(rb"\1null", data))


def files_of(place: Path) -> dict[str, bytes]:
    """Everything below `place / "out"` but locks, by name."""
    found = sorted(p for p in (place / "out").rglob("*") if p.is_file() and p.name != "lock")
    return {str(p.relative_to(place)): normalized(p.read_bytes(), place) for p in found}


def made_at(tree: Path, name: str) -> dict[str, bytes]:
    """What the package in `tree` writes. Always in the same folder, whose path enters some bytes and seeds."""
    place = Path(tempfile.gettempdir()) / "u2s-golden"
    subprocess.run(["rm", "-rf", place], check=True)
    environment = {**os.environ, "PYTHONPATH": str(tree), "HF_HUB_OFFLINE": "1", "TQDM_DISABLE": "1"}
    subprocess.run([sys.executable, __file__, "--record", place], cwd=tree, env=environment, check=True)
    print(f"{name}: {len(files := files_of(place))} files")
    return files


def difference(name: str, before: bytes | None, after: bytes | None) -> str:
    """A line for bytes, a few of the lines that changed for a text."""
    if before is None or after is None:
        return f"{name}: only {'after' if before is None else 'before'}"
    with contextlib.suppress(UnicodeDecodeError):
        lines = (data.decode().splitlines() for data in (before, after))
        changed = [line for line in difflib.unified_diff(*lines, lineterm="", n=0) if not line.startswith("@@")]
        return "\n".join([name, *(f"    {line[:200]}" for line in changed[2:40])])
    return f"{name}: {len(before)} bytes, now {len(after)}, other contents"


def main(words: list[str]) -> int:
    """Compare the working tree with a commit; 1 where anything differs."""
    if words[0] == "--record":
        with contextlib.redirect_stdout(io.StringIO()):
            record(Path(words[1]))
        return 0
    with tempfile.TemporaryDirectory() as folder:
        tree = Path(folder) / "tree"
        subprocess.run(["git", "worktree", "add", "--quiet", "--detach", tree, words[0]], cwd=REPOSITORY, check=True)
        try:
            before = made_at(tree, words[0])
        finally:
            subprocess.run(["git", "worktree", "remove", "--force", tree], cwd=REPOSITORY, check=True)
    after = made_at(REPOSITORY, "the working tree")
    names = sorted({*before, *after})
    other = [n for n in names if before.get(n) != after.get(n)]
    for name in other:
        print(difference(name, before.get(name), after.get(name)))
    print(f"{len(names) - len(other)} files alike, {len(other)} differ")
    return bool(other)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
