"""Publishing: a run, or datasets that went through the steps, as a safe dataset on the Hub with a card.

Judge every row, build, read the built bytes back and search them, upload, compare, and only then write the card and
open the repository. Any reason against it stops the whole before the first request.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from u2s_datasets.errors import SetupError
from u2s_datasets.output import read_secret
from u2s_datasets.publish import facts as facts_
from u2s_datasets.publish.audit import checked
from u2s_datasets.publish.build import Builder, Built, check_name, parse_size
from u2s_datasets.publish.card import About, dataset_card, model_card
from u2s_datasets.publish.dataset_split import DatasetSplit
from u2s_datasets.publish.gate import ALLOWABLE, REMEDIES, Gate, Refused
from u2s_datasets.publish.remote import CARD, HubError, Remote
from u2s_datasets.publish.run_split import RunSplit
from u2s_datasets.publish.scan import Index, folder_files, scan, scan_text

__all__ = ["About", "HubError", "Plan", "Pushed", "Refused", "model_card", "push_to_hub"]

_OWN_FILES = {CARD, ".gitattributes", facts_.FACTS_FILE}


@dataclass(frozen=True)
class Plan:
    """What would leave, or why nothing may.

    Args:
        reasons: code -> words of everything that stands against it; empty where it may leave.
        files: path -> size in bytes.
        columns: name -> type.
        sample: a few rows; their images as format and size.
        card: the README.md.
    """

    reasons: dict[str, str]
    files: dict[str, int]
    columns: dict[str, str]
    sample: list[dict[str, Any]] = field(default_factory=list)
    card: str = ""

    def __str__(self) -> str:
        lines = [f"{size:>14,}  {path}" for path, size in self.files.items()]
        lines += [f"column {name}: {kind}" for name, kind in self.columns.items()]
        lines += [f"row {row}" for row in self.sample]
        against = [f"stopped by {code}: {words}" for code, words in self.reasons.items()]
        return "\n".join([*lines, *(against or ["nothing stands against it"])])


@dataclass(frozen=True)
class Pushed:
    """What was published.

    Args:
        repo_id, revision: where; `revision` is none on the main branch.
        commit: of the data.
        private: whether only its owner sees it.
        pull_request: its address, where one was opened.
        files: path -> size in bytes.
    """

    repo_id: str
    revision: str | None
    commit: str
    private: bool
    pull_request: str | None
    files: dict[str, int]


def push_to_hub(
    data: Any,
    repo_id: str,
    *,
    license: str = "",
    source_dataset: str = "",
    source_license: str = "",
    private: bool = True,
    revision: str | None = None,
    create_pr: bool = False,
    tag: str | None = None,
    note: str = "",
    config_name: str = "default",
    split: str = "train",
    max_shard_size: str | int = "500MB",
    token: str | None = None,
    keep: Sequence[str] | None = None,
    allow: Sequence[str] = (),
    quality: Mapping[str, float] | None = None,
    max_leak_rate: float | None = None,
    audit: Mapping[str, Any] | None = None,
    secret: str | Path | None = None,
    title: str = "",
    license_link: str = "",
    contact: str = "",
    task_categories: Sequence[str] = (),
    gated: Literal["auto", "manual"] | None = None,
    model_licences: Mapping[str, str] | None = None,
    work: str | Path | None = None,
    dry_run: bool = False,
    progress: bool = False,
) -> Pushed | Plan:
    """Publish the safe and anonymized rows of a run, or of datasets that went through the steps.

    Args:
        data: the folder of a finished run; a `Dataset`, `IterableDataset`, `DatasetDict` or `IterableDatasetDict`; or a
            dict of configs, {name: any of these}, one per variant.
        repo_id: "ORG/NAME".
        license, source_dataset, source_license, license_link, title, contact, task_categories, gated: what only the
            publisher knows, see `card.About`; the first three are asked for.
        private: False opens the repository to everybody, at the very end.
        revision: branch to write to, made where it is not there; the main one if none is given.
        create_pr: write to a new pull request instead.
        tag: tag of this version, such as "v1.1".
        note: what changed, for the changelog.
        config_name, split: where one dataset goes; a dict or a `DatasetDict` names its own.
        max_shard_size: of one file, such as "500MB".
        token: write token; HF_TOKEN or that of `hf auth login` if none is given.
        keep: columns of the source that leave, too. Of a run all those that it kept, if none are given.
        allow: exceptions by name (`gate.ALLOWABLE`) and kept columns that look identifying; the card states them.
        quality: score -> the worst value that may leave, per anonymized row; rows below it, or without it, stay home.
        max_leak_rate: the highest upper bound of an audit that is good enough, in [0, 1].
        audit: what an audit found, for datasets; a run has its own in `private/audit.json`. See `audit.py`.
        secret: file with the key of new row ids, for datasets without any; made for this call if none is given, and
            then a push that was cut cannot be resumed.
        model_licences: model id -> licence, for the card.
        work: folder for the build, emptied at the end; the run's `private/` or the system's if none is given.
        dry_run: do everything but the upload, without a request.
        progress: show a progress bar on standard error.

    Returns:
        `Pushed`; for a dry run the `Plan`, with every reason against it.

    Raises:
        Refused: the gate or the scan found reasons against it; nothing was uploaded.
        HubError: the Hub refused or failed; the message says what to do.
        SetupError: the call is to be mended.
    """
    about = About(license, source_dataset, source_license, title, license_link, contact, tuple(task_categories), gated)
    key = read_secret(Path(secret).expanduser()) if secret is not None else None
    options: dict[str, Any] = {"keep": keep, "secret": key, "audit": None if audit is None else _audit(audit)}
    configs = _configs(data, config_name, split, options)
    job = _Job(repo_id, about, configs, max_leak_rate, model_licences or {}, progress)
    _check_allow(allow, [name for splits in job.configs.values() for s in splits.values() for name in s.kept])
    remote = Remote(repo_id, token, revision)
    if create_pr and revision is not None:
        raise SetupError(f"revision={revision!r} and create_pr=True exclude each other; give one of them")
    home = Path(work).expanduser() if work is not None else job.home()
    if home is not None:
        home.mkdir(parents=True, exist_ok=True)
    size = parse_size(max_shard_size)
    with tempfile.TemporaryDirectory(prefix="u2s-publish-", dir=home) as folder, job.held():
        job.prepare(Path(folder), allow, quality, size)
        if dry_run:
            return job.plan(note, tag or "")
        job.refuse()
        return _push(job, remote, private, create_pr, tag, note, set(allow))


class _Job:
    """One push, from the sources to the files."""

    def __init__(
        self,
        repo_id: str,
        about: About,
        configs: dict[str, dict[str, RunSplit | DatasetSplit]],
        max_leak_rate: float | None,
        licences: Mapping[str, str],
        progress: bool,
    ) -> None:
        self.progress = progress
        self.repo_id, self.about, self.configs = repo_id, about, configs
        self.max_leak_rate, self.licences = max_leak_rate, licences
        self.reasons: dict[str, str] = {}
        self.facts: dict[str, dict[str, dict[str, Any]]] = {}
        self.built: list[Built] = []
        self.index = Index()

    def home(self) -> Path | None:
        """Where the build may lie."""
        return next((s.work for splits in self.configs.values() for s in splits.values() if s.work), None)

    def held(self) -> ExitStack:
        """Keeps runs from writing into their folders meanwhile."""
        with ExitStack() as stack:
            for split in (s for splits in self.configs.values() for s in splits.values()):
                if isinstance(split, RunSplit):
                    stack.enter_context(split.held())
            return stack.pop_all()

    def prepare(self, folder: Path, allow: Sequence[str], quality: Mapping[str, float] | None, size: int) -> None:
        """Judge every row, build what may leave, and search what was built. Gathers the reasons; raises none."""
        self.data, self.top = folder / "data", folder / "top"
        for place in (self.data, self.top):
            place.mkdir()
        if missing := "; ".join(self.about.missing()):
            self.reasons["facts"] = missing
        self.index.texts = "text" not in allow
        done = []
        for config, splits in self.configs.items():
            for name, split in splits.items():
                gate = Gate(allow, quality, split.kept)
                builder = Builder(self.data, folder / "buckets", config, name, split.features, size)
                self._judge(split, gate, builder)
                self._add_reasons(f"{config}/{name}", gate.reasons())
                done.append((config, name, split, gate, builder))
        if self.reasons:
            return
        for config, name, split, gate, builder in done:
            made = builder.finish()
            self.built += made
            facts = facts_.facts_of(split, gate, builder, made, self.licences)
            self.facts.setdefault(config, {})[name] = facts
        self._scan()

    def _judge(self, split: RunSplit | DatasetSplit, gate: Gate, builder: Builder) -> None:
        from tqdm import tqdm

        split.judge(gate)
        self._judge_audit(split, gate)
        self.index.words += split.secrets()
        for row in tqdm(split.candidates(), total=split.rows, unit="img", disable=not self.progress, smoothing=0.05):
            self.index.add(row)
            if gate.admits(row) and not gate.reasons() and not self.reasons:
                builder.add(row.public)
        split.judge_rows(gate)
        gate.close()

    def _judge_audit(self, split: RunSplit | DatasetSplit, gate: Gate) -> None:
        if self.max_leak_rate is None:
            return
        if split.audit is None:
            gate.note(
                "audit", f"an audit with a bound of {self.max_leak_rate:.2%} or less was asked for; there is none"
            )
        elif split.audit.upper_bound > self.max_leak_rate:
            gate.note("audit", f"the audit's bound is {split.audit.upper_bound:.2%}, above {self.max_leak_rate:.2%}")

    def _add_reasons(self, where: str, reasons: Mapping[str, str]) -> None:
        several = sum(map(len, self.configs.values())) > 1
        for code, words in reasons.items():
            words = f"{where}: {words}" if several else words
            self.reasons[code] = f"{self.reasons[code]}; {words}" if code in self.reasons else words

    def _scan(self) -> None:
        names = [name for splits in self.configs.values() for s in splits.values() for name in s.features]
        found = list(scan(folder_files(self.data), self.index, names))
        if found:
            self.reasons["scan"] = "; ".join(found[:10])

    def write_card(self, known: Mapping[str, Any], note: str, version: str) -> str:
        """Write the card and the facts into the folder that goes up last. Returns the card."""
        import json

        whole = facts_.merged(known, self.facts, note, version)
        card = dataset_card(self.repo_id, self.about, whole)
        facts = json.dumps(whole, indent=1, ensure_ascii=False) + "\n"
        if found := [*scan_text(CARD, card, self.index), *scan_text(facts_.FACTS_FILE, facts, self.index)]:
            raise Refused({"scan": "; ".join(found)})
        (self.top / CARD).write_text(card, "utf-8")
        (self.top / facts_.FACTS_FILE).write_text(facts, "utf-8")
        return card

    def refuse(self) -> None:
        """Raise `Refused` where anything stands against it."""
        if self.reasons:
            raise Refused(self.reasons)

    def plan(self, note: str, version: str) -> Plan:
        """What would leave."""
        columns = {
            n: str(f) for splits in self.configs.values() for s in splits.values() for n, f in s.features.items()
        }
        if self.reasons:
            return Plan(dict(self.reasons), {}, columns)
        card = self.write_card({}, note, version)
        files = {name: file.stat().st_size for name, file in [*folder_files(self.data), *folder_files(self.top)]}
        return Plan({}, files, columns, _sample(self.built), card)

    def stale(self) -> list[str]:
        """Patterns of the files that this push replaces."""
        folders = {config: "data" if config == "default" else config for config in self.configs}
        return [f"{folders[config]}/{name}-*.parquet" for config, splits in self.configs.items() for name in splits]


def _push(
    job: _Job, remote: Remote, private: bool, create_pr: bool, tag: str | None, note: str, allow: set[str]
) -> Pushed:
    is_private = remote.open()
    remote.check_tag(tag)
    known: dict[str, Any] = {}
    if is_private is None:
        remote.create()
        is_private = True
    else:
        if not is_private and private:
            raise Refused(
                {"repository": f"{job.repo_id} is public; push into a private repository, or say private=False"}
            )
        known = _known(job, remote, allow)
    remote.branch()
    job.write_card(known, note, tag or "")  # a fact that is missing must show before the first file is there
    address = remote.pull_request(note or "New version of the safe dataset") if create_pr else None
    commit = remote.upload(job.data, f"Data, made with u2s_datasets{f': {note}' if note else ''}", job.stale())
    remote.compare(job.data)
    remote.upload(job.top, "Card", ())
    remote.compare(job.top)
    if tag is not None:
        remote.tag(tag, note)
    if job.about.gated is not None:
        remote.settings(gated=job.about.gated)
    if is_private and not private and address is None:
        remote.settings(private=False)
        is_private = False
    files = {name: file.stat().st_size for name, file in [*folder_files(job.data), *folder_files(job.top)]}
    return Pushed(job.repo_id, remote.revision, commit, is_private, address, files)


def _known(job: _Job, remote: Remote, allow: set[str]) -> dict[str, Any]:
    """The facts of a repository that is there already. Raises `Refused` where it holds what nobody inspected.

    Files of this very push, which was cut, are no strangers.
    """
    there = remote.files()
    known = remote.read_json(facts_.FACTS_FILE) if facts_.FACTS_FILE in there else {}
    configs = known.get("configs", {})
    ours = {f["path"]: f["sha256"] for splits in configs.values() for one in splits.values() for f in one["files"]}
    mine = {b.path: facts_.sha256(b.file) for b in job.built}
    foreign = [
        path
        for path, (_, digest) in sorted(there.items())
        if path not in _OWN_FILES and digest not in (ours.get(path), mine.get(path))
    ]
    if foreign and "foreign_files" not in allow:
        raise Refused({"foreign_files": f"{len(foreign)} files, such as {foreign[0]!r}; {REMEDIES['foreign_files']}"})
    return known


def _configs(
    data: Any, config: str, split: str, options: Mapping[str, Any]
) -> dict[str, dict[str, RunSplit | DatasetSplit]]:
    """config -> split -> source."""
    from datasets import DatasetDict, IterableDatasetDict

    splits = (DatasetDict, IterableDatasetDict)
    configs = dict(data) if isinstance(data, Mapping) and not isinstance(data, splits) else {config: data}
    made: dict[str, dict[str, RunSplit | DatasetSplit]] = {}
    for name, one in configs.items():
        check_name("config_name", name)
        parts = dict(one) if isinstance(one, splits) else {split: one}
        made[name] = {check_name("split", part): _split(source, options) for part, source in parts.items()}
    if not made:
        raise SetupError("there is nothing to publish; give a run's folder or a dataset")
    return made


def _split(source: Any, options: Mapping[str, Any]) -> RunSplit | DatasetSplit:
    from datasets import Dataset, IterableDataset

    if isinstance(source, (str, Path)):
        return RunSplit(Path(source).expanduser(), options["keep"])
    if isinstance(source, (Dataset, IterableDataset)):
        return DatasetSplit(source, **options)
    raise SetupError(f"{type(source).__name__} cannot be published; give a run's folder or a dataset")


def _audit(stated: Mapping[str, Any]) -> Any:
    try:
        return checked(dict(stated))
    except (ValueError, TypeError, KeyError) as error:
        raise SetupError(f"audit={dict(stated)!r} is no audit ({error})") from error


def _check_allow(allow: Sequence[str], kept: Sequence[str]) -> None:
    for name in allow:
        if name not in ALLOWABLE and name not in kept:
            raise SetupError(f"allow={name!r} is no exception; use one of: {', '.join([*ALLOWABLE, *kept])}")


def _sample(built: Sequence[Built], rows: int = 3) -> list[dict[str, Any]]:
    """The first rows as they would leave; an image is named by its format and size."""
    import pyarrow.parquet as pq

    from u2s_datasets import columns as c
    from u2s_datasets.publish.candidates import pixels_of

    if not built:
        return []
    with pq.ParquetFile(built[0].file) as file:
        first = file.read_row_group(0).slice(0, rows).to_pylist()
    for row in first:
        data = row[c.ANONYMIZED_IMAGE]["bytes"]
        row[c.ANONYMIZED_IMAGE] = f"{pixels_of(data).size} pixels, {len(data):,} bytes"
    return first
