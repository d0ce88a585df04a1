"""Changing rows of a finished run so that a kill at any moment loses nothing; see `transaction`."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from u2s_datasets import columns as c
from u2s_datasets.errors import SetupError
from u2s_datasets.runs.files import ANEW, PRIVATE_MODE, PUBLIC_MODE, json_bytes, read_json, read_table
from u2s_datasets.runs.layout import WITHDRAWN, shard_name, shard_place
from u2s_datasets.runs.manifest import Shard, count_rows, shards_of
from u2s_datasets.runs.shards import PUBLISHABLE, kept_features, public_row, write_halves
from u2s_datasets.runs.transaction import PLAN, roll_forward, staged_name
from u2s_datasets.runs.writer import Output


class Change:
    """One change to the files of a run, decided as a whole by `commit`.

    Args:
        output: the run's folder, open and so locked.
    """

    def __init__(self, output: Output) -> None:
        self.output = output
        self.stage = output.private / "next.part"
        self.stage.mkdir(mode=0o700)
        self.place: dict[str, str] = {}
        self.remove = [name for name in WITHDRAWN if name != "run.json"]  # they speak of the rows as they were

    def path(self, place: str) -> Path:
        """Where to write the file that will take this place."""
        name = staged_name(place)
        self.place[name] = place
        return self.stage / name

    def write(self, place: str, data: bytes, mode: int = PRIVATE_MODE) -> None:
        """The content of a file that will take this place."""
        self.output.write(self.path(place), data, mode)

    def commit(self) -> None:
        """Decide the change, then carry it out."""
        plan = json.dumps({"place": self.place, "remove": self.remove})
        self.output.write(self.stage / PLAN, plan.encode(), PRIVATE_MODE)
        self.stage.rename(self.output.private / "next")
        roll_forward(self.output.root)

    def replace_rows(self, rows: Mapping[str, Mapping[str, Any]], kept: Mapping[str, Any] | None = None) -> None:
        """Prepare other values for rows of the run, in both halves of their shards, the manifest and `run.json`.

        Args:
            rows: row id -> new values of `columns.PRIVATE`; with a new image also of `columns.PUBLIC`, and under
                "kept" the columns that the user keeps.
            kept: name -> feature of the kept columns; a shard with public rows has its own.

        Raises:
            SetupError: a shard is not as the manifest says.
        """
        manifest = read_json(self.output.manifest, needs=frozenset({"shards"}), remedy=ANEW)
        shards = [self._replace_in(shard, rows, kept or {}) for shard in shards_of(manifest)]
        run = read_json(self.output.run, needs=frozenset({"rows"}))
        self.write("run.json", json_bytes(run | count_rows(shards, run["rows"])) + b"\n", PUBLIC_MODE)
        self.write("private/manifest.json", json_bytes({**manifest, "shards": [shard.to_json() for shard in shards]}))

    def _replace_in(self, shard: Shard, rows: Mapping[str, Mapping[str, Any]], kept: Mapping[str, Any]) -> Shard:
        """The shard's new entry in the manifest; its files are written if any of these rows is in it."""
        before = read_table(self.output.shard("private", shard.number))
        if not any(row[c.ROW_ID] in rows for row in before):
            return shard
        if not self.output.is_whole(shard):
            raise SetupError(
                f"shard {shard_name(shard.number)} was changed after it was written; repeat the same `u2s anonymize` "
                "command, which repairs it"
            )
        private = [{**row, **rows.get(row[c.ROW_ID], {})} for row in before]
        published = self.output.shard("public", shard.number)
        public = _public_rows(published, private, rows)

        def write(half: str, half_rows: Sequence[Mapping[str, Any]], features: Any) -> str:
            path = self.path(shard_place(half, shard.number))
            digest = self.output.write_table(path, half_rows, features)
            path.chmod(PUBLIC_MODE if half == "public" else PRIVATE_MODE)
            return digest

        hashes = write_halves(write, private, public, kept_features(published) or kept)
        if not public:
            self.remove.append(shard_place("public", shard.number))
        return Shard.of(shard.number, private, shard.kept_emptied, hashes)


def _public_rows(path: Path, private: Sequence[Mapping[str, Any]], rows: Mapping[str, Mapping[str, Any]]) -> list[dict]:
    """The shard's public rows after the change."""
    publishable = {row[c.ROW_ID] for row in private if row[c.STATUS] in PUBLISHABLE}
    new = {i: row for i, row in rows.items() if row.get(c.ANONYMIZED_IMAGE) is not None and i in publishable}
    old = (row for row in (read_table(path) if path.exists() else ()) if row[c.ROW_ID] in publishable - new.keys())
    return [*old, *({**public_row(row), c.ROW_ID: i} for i, row in new.items())]
