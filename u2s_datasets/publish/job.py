"""One push from the sources to the Hub: judge, build, scan, upload, and the card, which goes up last."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
from tqdm import tqdm

from u2s_datasets import columns as c
from u2s_datasets import images
from u2s_datasets.privacy.kept_columns import NOT_CHECKED
from u2s_datasets.publish.build import Builder, BuiltFile, config_folder, folder_files
from u2s_datasets.publish.card import dataset_card
from u2s_datasets.publish.dataset_split import DatasetSplit
from u2s_datasets.publish.gate import REMEDIES, PublishGate, Refused
from u2s_datasets.publish.hub import CARD, HubError, HubRepository
from u2s_datasets.publish.options import PushOptions
from u2s_datasets.publish.published import look, search
from u2s_datasets.publish.run_split import RunSplit
from u2s_datasets.publish.scan import FileDigest, PrivateIndex, scan, scan_text
from u2s_datasets.publish.summary import SUMMARY_FILE, dropped_columns, merge_summaries, summarize

Split = RunSplit | DatasetSplit
_SAMPLE_ROWS = 3


@dataclass(frozen=True)
class PushPreview:
    """What would leave, or why nothing may.

    Args:
        reasons: code -> description of everything that stands against it; empty if nothing does.
        files: path -> size in bytes.
        columns: name -> type.
        sample: a few rows; their images as size and number of bytes.
        card: the README.md.
        host: the address of the Hub that would get it.
        notes: what is emptied, dropped or skipped, a line each.
    """

    reasons: dict[str, str]
    files: dict[str, int]
    columns: dict[str, str]
    sample: list[dict[str, Any]] = field(default_factory=list)
    card: str = ""
    host: str = ""
    notes: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        lines = [f"to {self.host}"] if self.host else []
        lines += [f"{size:>14,}  {path}" for path, size in self.files.items()]
        lines += [f"column {name}: {kind}" for name, kind in self.columns.items()]
        lines += [f"row {row}" for row in self.sample]
        lines += self.notes
        against = [f"stopped by {code}: {reason}" for code, reason in self.reasons.items()]
        return "\n".join([*lines, *(against or ["nothing stands against it"])])


@dataclass(frozen=True)
class Pushed:
    """What was published.

    Args:
        repo_id, revision: where; `revision` is None on the main branch.
        commit: of the data.
        private: whether only its owner sees it.
        pull_request: its address, if one was opened.
        files: path -> size in bytes.
        host: the address of the Hub that has it.
    """

    repo_id: str
    revision: str | None
    commit: str
    private: bool
    pull_request: str | None
    files: dict[str, int]
    host: str = ""


class PushJob:
    """One push: judges every row, builds what may leave, searches what was built, and uploads it.

    Args:
        repo_id: "ORG/NAME".
        splits: (config, split) -> its rows.
        options: what the user asked for.
        folder: an empty folder for the build.

    Attributes:
        reasons: code -> description of everything that stands against the push.
        files: what was built, for the first upload.
        scanned: name in the repository -> the digest of what was searched; nothing else is uploaded.
        data, top: the folders that go up first and last.
    """

    def __init__(
        self, repo_id: str, splits: Mapping[tuple[str, str], Split], options: PushOptions, folder: Path
    ) -> None:
        self.repo_id, self.splits, self.options = repo_id, splits, options
        self.data, self.top, self._spools = folder / "data", folder / "top", folder / "buckets"
        self.data.mkdir()
        self.top.mkdir()
        self.reasons: dict[str, str] = {}
        self.files: list[BuiltFile] = []
        self.scanned: dict[str, FileDigest] = {}
        self._cards: dict[str, FileDigest] = {}
        self._searched: set[str] = set()
        self._summaries: dict[str, dict[str, dict[str, Any]]] = {}
        self._index = PrivateIndex(texts="text" not in options.allow)

    def prepare(self) -> None:
        """Judge every row, build what may leave, and search what was built. Gathers the reasons; raises none."""
        if missing := "; ".join(self.options.missing()):
            self.reasons["facts"] = missing
        judged = {place: self._judge(*place, split) for place, split in self.splits.items()}
        if self.reasons:
            return
        built = {place: builder.finish() for place, (_, builder) in judged.items()}
        self.files = [file for files in built.values() for file in files]
        names = [name for split in self.splits.values() for name in split.features]
        if found := list(scan(folder_files(self.data), self._index, names, self.scanned)):
            self.reasons["scan"] = "; ".join(found[:10])
            return
        for (config, name), (gate, builder) in judged.items():
            files, split = built[config, name], self.splits[config, name]
            summary = summarize(split, gate, builder, files, self.scanned, self.options.model_licences or {})
            self._summaries.setdefault(config, {})[name] = summary

    def _judge(self, config: str, name: str, split: Split) -> tuple[PublishGate, Builder]:
        options = self.options
        gate = PublishGate(options.allow, options.quality, split.kept)
        spool = self._spools / config / name
        builder = Builder(self.data, spool, config, name, split.features, options.max_shard_size)
        split.judge(gate)
        gate.judge_names(split.features)
        self._index.words += split.secrets()
        hidden = not options.progress
        for row in tqdm(split.candidates(), total=split.rows, unit="img", disable=hidden, smoothing=0.05):
            self._index.add(row)
            # Every row is judged, so that all reasons are listed; none is built any more once there is one.
            if gate.admits(row) and not gate.reasons() and not self.reasons:
                builder.add(row.leaving())
        split.judge_rows(gate)
        gate.judge_audit(split.audit, options.max_leak_rate, split.most_audited)
        gate.close()
        for code, reason in gate.reasons().items():
            reason = f"{config}/{name}: {reason}" if len(self.splits) > 1 else reason
            self.reasons[code] = f"{self.reasons[code]}; {reason}" if code in self.reasons else reason
        return gate, builder

    def _write_card(self, known: Mapping[str, Any], foreign_files: int = 0) -> str:
        """Write the card and its summary into the folder that goes up last. Returns the card.

        Args:
            known: the repository's summary so far; {} for a new one.
            foreign_files: how many files in it are not ours, which the user allowed.

        Raises:
            HubError: the repository's summary is damaged.
            Refused: the card or the summary holds something private.
        """
        if foreign_files:
            for split in (split for splits in self._summaries.values() for split in splits.values()):
                split["allowed"]["foreign_files"] = foreign_files
        try:
            merged = merge_summaries(known, self._summaries, self.options.note, self.options.tag or "")
            card = dataset_card(self.repo_id, self.options, merged)
        except (KeyError, TypeError, AttributeError, ValueError) as error:
            if not known:
                raise
            raise HubError(f"{SUMMARY_FILE} in {self.repo_id} is damaged; remove it there and push again") from error
        texts = {CARD: card, SUMMARY_FILE: json.dumps(merged, indent=1, ensure_ascii=False) + "\n"}
        if found := [finding for name, text in texts.items() for finding in scan_text(name, text, self._index)]:
            raise Refused({"scan": "; ".join(found)})
        for name, text in texts.items():
            (self.top / name).write_bytes(text.encode())
        self._cards = {name: FileDigest.of(text.encode()) for name, text in texts.items()}
        return card

    def preview(self, host: str = "") -> PushPreview:
        """What would leave, and to which host; the images of the sample as their size and number of bytes."""
        columns = {name: str(f) for split in self.splits.values() for name, f in split.features.items()}
        if self.reasons:
            return PushPreview(dict(self.reasons), {}, columns, host=host)
        card = self._write_card({})
        with pq.ParquetFile(self.files[0].file) as file:
            sample = file.read_row_group(0).slice(0, _SAMPLE_ROWS).to_pylist()
        for row in sample:
            data = row[c.ANONYMIZED_IMAGE]["bytes"]
            row[c.ANONYMIZED_IMAGE] = f"{images.decode(data).pixels.size} pixels, {len(data):,} bytes"
        return PushPreview({}, self._sizes(), columns, sample, card, host, self._notes())

    def _notes(self) -> list[str]:
        """What is emptied, dropped or skipped, by column and count. For the owner: names of columns may be private."""
        notes = []
        for (config, name), split in self.splits.items():
            counts = self._summaries[config][name]["counts"]
            where = f"{config}/{name}: "
            left = {key: counts[key] for key in (c.WITHHELD, "rejected", "below_quality") if counts.get(key)}
            notes += [f"{where}{number:,} rows left out: {key}" for key, number in left.items()]
            notes += [f"{where}column {column}: {n:,} emptied" for column, n in split.kept_emptied.items() if n]
            notes += [f"{where}column {column}: {NOT_CHECKED}" for column in split.names_not_checked]
            notes += [f"{where}column {column} of the source is left out" for column in sorted(dropped_columns(split))]
            skipped = split.report().run.get("skipped") or {}
            notes += [f"{where}{number:,} files of the source skipped: {kind}" for kind, number in skipped.items()]
        return notes

    def upload(self, hub: HubRepository) -> Pushed:
        """Upload what was prepared: data, comparison, card, tag, and only then is the repository opened.

        Raises:
            Refused: the repository is public, or holds what nobody inspected.
            HubError: the Hub refused or failed, or somebody opened the repository meanwhile.
        """
        options, note = self.options, self.options.note
        is_private = hub.open()
        hub.check_tag(options.tag)
        known: dict[str, Any] = {}
        foreign: set[str] = set()
        if is_private is None:
            hub.create()
            is_private = True
        elif not is_private and options.private:
            raise Refused({"repository": f"{self.repo_id} is public; {REMEDIES['repository']}"})
        else:
            known, foreign = self._look(hub, opened=is_private and not options.private)
        hub.branch()
        self._write_card(known, len(foreign))  # whatever is wrong with it must show before the first file is there
        address = hub.pull_request(note or "New version of the safe dataset") if options.create_pr else None
        if is_private:
            hub.check_private("before the data")
        message = f"Data, made with u2s_datasets{f': {note}' if note else ''}"
        commit = hub.upload(self.data, self.scanned, message, self._stale())
        hub.compare(self.scanned)
        if is_private:
            hub.check_private("before the card")
        hub.upload(self.top, self._cards, "Card")
        hub.compare(self._cards)
        if options.tag is not None:
            hub.tag(options.tag, note)
        if options.gated is not None:
            hub.settings(gated=options.gated)
        if is_private:
            hub.check_private("at the end")
        if is_private and not options.private and address is None:
            self._look_again(hub)
            hub.settings(private=False)
            is_private = False
        return Pushed(self.repo_id, hub.revision, commit, is_private, address, self._sizes(), hub.host)

    def _look(self, hub: HubRepository, opened: bool) -> tuple[dict[str, Any], set[str]]:
        """(summary, foreign files) of a repository. One that is to be opened is searched as a whole.

        Raises:
            Refused: it holds files that nobody inspected.
        """
        here = look(hub, hub.readable(), self.scanned)
        # Others will see all of them.
        others = [look(hub, revision, self.scanned) for revision in (hub.all_revisions() if opened else ())]
        foreign = here.foreign.union(*(one.foreign for one in others))
        if foreign and "foreign_files" not in self.options.allow:
            found = f"{len(foreign)} files, such as {min(foreign)!r}"
            raise Refused({"foreign_files": f"{found}; {REMEDIES['foreign_files']}"})
        known = self._searched | {digest.sha256 for digest in self.scanned.values()}
        replaced = {path for path in here.shards if any(fnmatchcase(path, pattern) for pattern in self._stale())}
        for one in others:
            gone = replaced if one.revision == (hub.readable() or "main") else set()
            one.shards = {path: d for path, d in one.shards.items() if path not in gone and d not in known}
        if wrong := [finding for one in others for finding in search(hub, one, self._index)]:
            raise Refused({"foreign_files": f"{'; '.join(wrong[:10])}; {REMEDIES['foreign_files']}"})
        self._searched |= {digest for one in others for digest in one.shards.values()}
        return here.summary, foreign

    def _look_again(self, hub: HubRepository) -> None:
        """Raise `HubError` if somebody put something into the repository while this push was at work."""
        hub.open()
        try:
            self._look(hub, opened=True)
        except Refused as error:
            raise HubError(
                f"{self.repo_id} was changed by somebody while this push was at work, and stays private: "
                f"{error.reasons['foreign_files']}"
            ) from error

    def _stale(self) -> list[str]:
        """Patterns of the files that this push replaces."""
        return [f"{config_folder(config)}/{name}-?????-of-?????.parquet" for config, name in self.splits]

    def _sizes(self) -> dict[str, int]:
        return {name: file.stat().st_size for name, file in [*folder_files(self.data), *folder_files(self.top)]}
