"""Publishing: a run, or datasets that went through the steps, as a safe dataset on the Hub with a card.

Judge every row, build, read the built bytes back and search them, upload, compare, and only then write the card and
open the repository. Any reason against it stops the whole before the first request.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from secrets import token_bytes
from typing import Any, Literal

from u2s_datasets.errors import SetupError
from u2s_datasets.publish.build import check_name, parse_size
from u2s_datasets.publish.card import About, model_card
from u2s_datasets.publish.dataset_split import DatasetSplit
from u2s_datasets.publish.gate import ALLOWABLE, Refused
from u2s_datasets.publish.hub import HubError, Remote
from u2s_datasets.publish.job import Job, Plan, Split
from u2s_datasets.publish.run_split import RunSplit
from u2s_datasets.publish.send import Pushed, send
from u2s_datasets.runs.audit import checked_audit
from u2s_datasets.runs.identity import read_secret

__all__ = ["About", "HubError", "Plan", "Pushed", "Refused", "model_card", "push_to_hub"]


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
        keep: columns of the source that leave, too, and scores, which are rounded to two digits. Of a run all columns
            that it kept, if none are given.
        allow: exceptions by name (`gate.ALLOWABLE`) and kept columns that look identifying; the card states them.
        quality: score -> the worst value that may leave, per anonymized row; with a worse one or none it stays home.
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
    key = read_secret(Path(secret).expanduser()) if secret is not None else token_bytes(32)
    options: dict[str, Any] = {"keep": keep, "secret": key, "audit": None if audit is None else _audit(audit)}
    configs = _configs(data, config_name, split, options)
    job = Job(repo_id, about, configs, max_leak_rate, model_licences or {}, progress)
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
        return send(job, remote, private, create_pr, tag, note, set(allow))


def _configs(data: Any, config: str, split: str, options: Mapping[str, Any]) -> dict[str, dict[str, Split]]:
    """config -> split -> source."""
    from datasets import DatasetDict, IterableDatasetDict

    splits = (DatasetDict, IterableDatasetDict)
    configs = dict(data) if isinstance(data, Mapping) and not isinstance(data, splits) else {config: data}
    made: dict[str, dict[str, Split]] = {}
    for name, one in configs.items():
        check_name("config_name", name)
        parts = dict(one) if isinstance(one, splits) else {split: one}
        made[name] = {check_name("split", part): _split(source, part, options) for part, source in parts.items()}
    if not made:
        raise SetupError("there is nothing to publish; give a run's folder or a dataset")
    return made


def _split(source: Any, name: str, options: Mapping[str, Any]) -> Split:
    from datasets import Dataset, IterableDataset

    if isinstance(source, (str, Path)):
        return RunSplit(Path(source).expanduser(), options["keep"])
    if isinstance(source, (Dataset, IterableDataset)):
        return DatasetSplit(source, name, **options)
    raise SetupError(f"{type(source).__name__} cannot be published; give a run's folder or a dataset")


def _audit(stated: Mapping[str, Any]) -> Any:
    try:
        return checked_audit(dict(stated))
    except (ValueError, TypeError, KeyError) as error:
        raise SetupError(f"audit={dict(stated)!r} is no audit ({error})") from error


def _check_allow(allow: Sequence[str], kept: Sequence[str]) -> None:
    for name in allow:
        if name not in ALLOWABLE and name not in kept:
            raise SetupError(f"allow={name!r} is no exception; use one of: {', '.join([*ALLOWABLE, *kept])}")
