"""Changing rows of a finished run so that a kill at any moment loses nothing; see `transaction`."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from u2s_datasets import columns as c
from u2s_datasets.errors import SetupError
from u2s_datasets.runs.decisions import REJECTED
from u2s_datasets.runs.files import ANEW, PRIVATE_MODE, PUBLIC_MODE, json_bytes, read_json, read_table
from u2s_datasets.runs.layout import HALVES, WITHDRAWN, shard_name, shard_place
from u2s_datasets.runs.manifest import Shard, count_rows, count_unverified, shards_of
from u2s_datasets.runs.seal import bound_files, content_digest, sealed
from u2s_datasets.runs.shards import PUBLISHABLE, kept_features, public_row, write_halves
from u2s_datasets.runs.transaction import Transaction
from u2s_datasets.runs.writer import Output


class Change(Transaction):
    """One change to the files of a run, decided as a whole by `commit`; the manifest binds what it writes.

    What it does not write stays bound as it was, whatever lies on the disk.

    Args:
        output: the folder of a finished run, open and so locked.

    Raises:
        SetupError: the manifest is damaged.
    """

    def __init__(self, output: Output) -> None:
        self.output = output
        self.manifest = read_json(output.manifest, needs=frozenset({"shards"}), remedy=ANEW)
        self.files = bound_files(self.manifest)
        super().__init__(output.root)

    def write_json(self, place: str, content: Mapping[str, Any], mode: int = PRIVATE_MODE) -> None:
        """The content of a JSON file that will take this place."""
        self.write(place, json_bytes(content) + b"\n" * (place == "run.json"), mode)
        if self.files is not None:
            self.files[place] = content_digest(place, content)

    def drop(self, *places: str) -> None:
        """Remove these files, if they are there."""
        for place in places:
            self.remove.append(place)
            if self.files is not None:
                self.files.pop(place, None)

    def decide(self) -> None:
        """As every transaction; the manifest takes its place last, since it vouches for all the others."""
        self.write("private/manifest.json", json_bytes(sealed(self.manifest, self.files)))
        super().decide()

    def replace_rows(self, rows: Mapping[str, Mapping[str, Any]], kept: Mapping[str, Any] | None = None) -> None:
        """Prepare other values for rows of the run, in both halves of their shards, the manifest and `run.json`.

        Args:
            rows: row id -> new values of `columns.PRIVATE`; with a new image also of `columns.PUBLIC`, and under
                "kept" the columns that the user keeps.
            kept: name -> feature of the kept columns; a shard with public rows has its own.

        Raises:
            SetupError: a shard is not as the manifest says.
        """
        shards = [self._replace_in(shard, rows, kept or {}) for shard in shards_of(self.manifest)]
        self.manifest["shards"] = [shard.to_json() for shard in shards]
        self.drop(*(name for name in WITHDRAWN if name != "run.json"))  # they speak of the rows as they were
        run = read_json(self.output.run, needs=frozenset({"rows"}))
        self.write_json("run.json", run | count_rows(shards, run["rows"]), PUBLIC_MODE)

    def _replace_in(self, shard: Shard, rows: Mapping[str, Mapping[str, Any]], kept: Mapping[str, Any]) -> Shard:
        """The shard's new entry in the manifest; its files are written if any of these rows is in it."""
        path = self.output.shard("private", shard.number)
        stated = list(read_table(path, [c.ROW_ID, c.STATUS, c.PROVENANCE]))
        if not any(row[c.ROW_ID] in rows for row in stated):
            return replace(shard, unverified=count_unverified(stated))  # earlier versions did not count them
        if not self.output.is_whole(shard):
            raise SetupError(
                f"shard {shard_name(shard.number)} was changed after it was written; repeat the same `u2s anonymize` "
                "command, which repairs it"
            )
        private = [{**row, **rows.get(row[c.ROW_ID], {})} for row in read_table(path)]
        stored = [self.output.shard(half, shard.number) for half in ("public", "rejected")]
        public, rejected = _public_rows(stored, private, rows)

        def write(half: str, half_rows: Sequence[Mapping[str, Any]], features: Any) -> str:
            path = self.path(shard_place(half, shard.number))
            digest = self.output.write_table(path, half_rows, features)
            path.chmod(PUBLIC_MODE if half == "public" else PRIVATE_MODE)
            return digest

        kept = next(filter(None, map(kept_features, stored)), kept)
        hashes = write_halves(write, private, public, kept, rejected)
        self.remove += [shard_place(half, shard.number) for half in HALVES.keys() - hashes.keys()]
        return Shard.of(shard.number, private, shard.kept_emptied, hashes)

    def rejected_rows(self) -> dict[str, str]:
        """Row id -> the status that a row had before a reviewer rejected it, of those whose image is still here."""
        listed = [shard.number for shard in shards_of(self.manifest) if "rejected" in shard.sha256]
        tables = (read_table(self.output.shard("rejected", number), [c.ROW_ID, c.STATUS]) for number in listed)
        return {row[c.ROW_ID]: row[c.STATUS] for table in tables for row in table}


def _public_rows(
    stored: Sequence[Path], private: Sequence[Mapping[str, Any]], rows: Mapping[str, Mapping[str, Any]]
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """The shard's public rows after the change, and those that a reviewer rejected."""
    publishable = {row[c.ROW_ID] for row in private if row[c.STATUS] in PUBLISHABLE}
    refused = {row[c.ROW_ID] for row in private if row[c.STATUS] == c.WITHHELD and row[c.REASON] == REJECTED[c.REASON]}
    new = {i: row for i, row in rows.items() if row.get(c.ANONYMIZED_IMAGE) is not None and i in publishable}
    old = [row for path in stored if path.exists() for row in read_table(path) if row[c.ROW_ID] not in new]
    public = [row for row in old if row[c.ROW_ID] in publishable]
    added = [{**public_row(row), c.ROW_ID: i} for i, row in new.items()]
    return [*public, *added], [row for row in old if row[c.ROW_ID] in refused]
