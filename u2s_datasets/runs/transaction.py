"""Changing rows of a finished run so that a kill at any moment loses nothing.

What is to change is written whole into `private/next` first, with a plan of where each file goes; from then on the
change only ever goes forward. Whoever opens the folder to write next finishes it (`Output.__enter__`).
"""

from __future__ import annotations

import json
import re
import shutil
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from u2s_datasets import columns as c
from u2s_datasets.errors import SetupError
from u2s_datasets.runs.files import ANEW, read_json, read_table, readable

if TYPE_CHECKING:
    from u2s_datasets.runs.writer import Output

_PLAN = "plan.json"
_PLACES = re.compile(
    r"(data|private/rows)/part-[0-9]{5,}\.parquet|run\.json|(private/)?(report\.html|eval\.(json|md))"
    r"|private/(eval\.parquet|(manifest|reviews|audit)\.json)"
)
"""The files that a change may place or remove. A folder may come from anyone, with a plan that names others."""
_LEFT = (c.SAFE, c.ANONYMIZED)


def roll_forward(root: Path) -> None:
    """Finish a change that was decided and cut off; drop one that was not decided yet. Call with the folder locked.

    Raises:
        SetupError: the change is none that `Change` writes; nothing was touched.
    """
    shutil.rmtree(root / "private" / "next.part", ignore_errors=True)
    stage = root / "private" / "next"
    if stage.is_symlink() or (stage.exists() and not stage.is_dir()):
        raise _no_change(stage, "is no folder")
    if not (stage / _PLAN).exists():
        shutil.rmtree(stage, ignore_errors=True)
        return
    place_of, remove = _read_plan(stage)
    for name in remove:
        (root / name).unlink(missing_ok=True)
    for name, place in place_of.items():  # the manifest comes last: it speaks for all the others
        if (stage / name).exists():
            (stage / name).replace(root / place)
    (stage / _PLAN).unlink()
    shutil.rmtree(stage)


def _read_plan(stage: Path) -> tuple[dict[str, str], list[str]]:
    """(staged file -> its place, what to remove) of a change that was decided. Raises as `roll_forward`."""
    try:
        plan = json.loads((stage / _PLAN).read_text("utf-8"))
        place_of, remove = dict(plan["place"]), list(plan["remove"])
        places = [*remove, *place_of.values()]
        foreign = [place for place in places if not _PLACES.fullmatch(place)]
        foreign += [name for name, place in place_of.items() if name != _staged(place)]
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise _no_change(stage / _PLAN, "is no plan") from error
    foreign += [path.name for path in stage.iterdir() if path.is_symlink() or not path.is_file()]
    if foreign:
        raise _no_change(stage / _PLAN, f"names {foreign[0]!r}, which no change of a run touches")
    return place_of, remove


def _no_change(path: Path, words: str) -> SetupError:
    return SetupError(
        f"{str(path)!r} {words}; if you trust the rest of the folder, remove private/next and run the same "
        "`u2s anonymize` again, which mends what is half changed"
    )


def _staged(place: str) -> str:
    """The name of a file until it takes its place."""
    return place.replace("/", "-")


class Change:
    """One change to the files of a run, decided as a whole by `commit`.

    Args:
        output: the run's folder, open and so locked.
    """

    def __init__(self, output: Output) -> None:
        from u2s_datasets.runs.writer import WITHDRAWN

        self.output, self.root = output, output.root
        self.stage = output.private / "next.part"
        self.stage.mkdir(mode=0o700)
        self.place: dict[str, str] = {}
        self.remove = [name for name in WITHDRAWN if name != "run.json"]  # they speak of the rows as they were

    def path(self, place: str) -> Path:
        """Where to write the file that will take this place."""
        name = _staged(place)
        self.place[name] = place
        return self.stage / name

    def write(self, place: str, text: str, mode: int = 0o600) -> None:
        """A text that will take this place."""
        self.output.write(self.path(place), text.encode("utf-8", "backslashreplace"), mode)

    def commit(self) -> None:
        """Decide the change, then carry it out."""
        plan = json.dumps({"place": self.place, "remove": self.remove})
        self.output.write(self.stage / _PLAN, plan.encode(), 0o600)
        self.stage.rename(self.output.private / "next")
        roll_forward(self.root)


def replace_rows(change: Change, rows: Mapping[str, Mapping[str, Any]], kept: Mapping[str, Any] | None = None) -> None:
    """Prepare other values for rows of the run, in both halves of their shards, the manifest and `run.json`.

    Args:
        change: what the new files are added to.
        rows: row id -> new values of `columns.PRIVATE`; with a new image also of `columns.PUBLIC`, and under "kept"
            the columns that the user keeps.
        kept: name -> feature of the kept columns; where a shard has public rows, theirs are taken.

    Raises:
        SetupError: a shard is not as the manifest says.
    """
    from u2s_datasets.executor.plan import counts

    path = change.output.private / "manifest.json"
    manifest = read_json(path, needs=frozenset({"shards"}), remedy=ANEW)
    shards = [_shard(change, shard, rows, kept or {}) for shard in manifest["shards"]]
    run = read_json(change.root / "run.json", needs=frozenset({"rows"}))
    run |= counts(shards, run["rows"])
    change.write("run.json", json.dumps(run, indent=1, sort_keys=True, ensure_ascii=False) + "\n", 0o644)
    text = json.dumps({**manifest, "shards": shards}, indent=1, sort_keys=True, ensure_ascii=False)
    change.write("private/manifest.json", text)


def _shard(
    change: Change, shard: dict[str, Any], rows: Mapping[str, Mapping[str, Any]], kept: Mapping[str, Any]
) -> dict[str, Any]:
    """The shard's new entry in the manifest; its files are written where any of these rows is in it."""
    output, name = change.output, f"part-{shard['shard']:05d}.parquet"
    before = read_table(output.rows / name)
    if not any(row[c.ROW_ID] in rows for row in before):
        return shard
    if not output.is_whole(shard):
        raise SetupError(f"shard {name} is not as it was written; run the same `u2s anonymize` again, which mends it")
    private = [{**row, **rows.get(row[c.ROW_ID], {})} for row in before]
    public = _public(output.data / name, private, rows)
    hashes = {"private": output.write_table(change.path(f"private/rows/{name}"), private, c.PRIVATE, {})}
    if public:
        place = change.path(f"data/{name}")
        hashes["public"] = output.write_table(place, public, c.PUBLIC, _features(output.data / name) or kept)
        place.chmod(0o644)
    else:
        change.remove.append(f"data/{name}")
    reasons = Counter(r[c.REASON] for r in private if r[c.STATUS] == c.WITHHELD)
    count = {s: sum(r[c.STATUS] == s for r in private) for s in c.STATUSES}
    return {**shard, **count, "reasons": dict(sorted(reasons.items())), "sha256": hashes}


def _public(path: Path, private: Sequence[Mapping[str, Any]], rows: Mapping[str, Mapping[str, Any]]) -> list[dict]:
    """The shard's public rows after the change, in their order: by allowlist, as the run itself writes them."""
    left = {row[c.ROW_ID] for row in private if row[c.STATUS] in _LEFT}
    new = {i: row for i, row in rows.items() if row.get(c.ANONYMIZED_IMAGE) is not None and i in left}
    public = [r for r in (read_table(path) if path.exists() else ()) if r[c.ROW_ID] in left and r[c.ROW_ID] not in new]
    public += [{**row.get("kept", {}), **{n: row.get(n) for n in c.PUBLIC}, c.ROW_ID: i} for i, row in new.items()]
    return sorted(public, key=lambda row: row[c.ROW_ID])


def _features(path: Path) -> dict[str, Any]:
    from datasets import Features
    from pyarrow import parquet

    if not path.exists():
        return {}
    with readable(path):
        features = Features.from_arrow_schema(parquet.read_schema(path))
    return {name: feature for name, feature in features.items() if name not in c.PUBLIC}
