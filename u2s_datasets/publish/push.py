"""Publishing: a run, or datasets that went through the steps, as a safe dataset on the Hub with a card.

Judge every row, build, read the built bytes back and search them, upload, compare, and only then write the card and
open the repository. Any reason against it stops the whole push before the first request.
"""

import sys
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from secrets import token_bytes
from typing import Any, Literal

from datasets import Dataset, DatasetDict, IterableDataset, IterableDatasetDict

from u2s_datasets.errors import SetupError
from u2s_datasets.parts import TextCheck
from u2s_datasets.parts.docstrings import documented_by
from u2s_datasets.parts.text_checks import make_text_check
from u2s_datasets.publish.build import check_name
from u2s_datasets.publish.card import model_card
from u2s_datasets.publish.dataset_split import DatasetSplit
from u2s_datasets.publish.gate import ALLOWABLE, Refused
from u2s_datasets.publish.hub import HubError, HubRepository
from u2s_datasets.publish.job import Pushed, PushJob, PushPreview, Split
from u2s_datasets.publish.options import About, PushOptions
from u2s_datasets.publish.run_split import RunSplit
from u2s_datasets.runs.audit import checked_audit
from u2s_datasets.runs.identity import read_secret

__all__ = ["About", "HubError", "PushPreview", "Pushed", "Refused", "model_card", "push_to_hub"]


@documented_by(PushOptions)
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
    text_check: str | TextCheck | None = None,
    text_check_options: Mapping[str, Any] | None = None,
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
) -> Pushed | PushPreview:
    """Publish the safe and anonymized rows of a run, or of datasets that went through the steps.

    Args:
        data: the folder of a finished run; a `Dataset`, `IterableDataset`, `DatasetDict` or `IterableDatasetDict`; or a
            dict of configs, {name: any of these}, one per variant.
        repo_id: "ORG/NAME".
        {options}

    Returns:
        `Pushed`; for a dry run the `PushPreview`, with every reason against it.

    Raises:
        Refused: the gate or the scan found reasons against it; nothing was uploaded.
        HubError: the Hub refused or failed; the message says what to do.
        SetupError: the call has to be changed.
    """
    given = {name: value for name, value in locals().items() if name not in ("data", "repo_id")}
    return _push(data, repo_id, PushOptions(**given))  # a test compares its fields with the arguments here


def _push(data: Any, repo_id: str, options: PushOptions) -> Pushed | PushPreview:
    splits = _open_splits(data, options)
    known = [*ALLOWABLE, *(name for split in splits.values() for name in split.kept)]
    for name in options.allow:
        if name not in known:
            raise SetupError(f"unknown exception allow={name!r}; expected one of: {', '.join(known)}")
    repository = HubRepository(repo_id, options.token, options.revision)
    folders = [options.work, *(split.work for split in splits.values())]
    work = next((Path(folder).expanduser() for folder in folders if folder is not None), None)
    if work is not None:
        work.mkdir(parents=True, exist_ok=True)
    with ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="u2s-publish-", dir=work))
        for split in splits.values():
            if isinstance(split, RunSplit):
                stack.enter_context(split.held())
        job = PushJob(repo_id, splits, options, Path(folder))
        job.prepare()
        if options.dry_run:
            return job.preview(repository.host)
        if job.reasons:
            raise Refused(job.reasons)
        if options.progress:
            sizes = [digest.size for digest in job.scanned.values()]
            what = f"{len(sizes)} files, {sum(sizes):,} bytes"
            print(f"{what} go to {repository.host} as the dataset {repo_id}", file=sys.stderr, flush=True)
        return job.upload(repository)


def _open_splits(data: Any, options: PushOptions) -> dict[tuple[str, str], Split]:
    """(config, split) -> its rows."""
    secret = token_bytes(32) if options.secret is None else read_secret(Path(options.secret).expanduser())
    try:
        audit = None if options.audit is None else checked_audit(dict(options.audit))
    except (ValueError, TypeError, KeyError) as error:
        raise SetupError(f"invalid audit={dict(options.audit or {})!r}: {error}") from error
    named = isinstance(data, Mapping) and not isinstance(data, (DatasetDict, IterableDatasetDict))
    configs = dict(data) if named else {options.config_name: data}
    text_check = make_text_check(options.text_check, options.text_check_options)
    splits: dict[tuple[str, str], Split] = {}
    for config, one in configs.items():
        check_name("config_name", config)
        parts = dict(one) if isinstance(one, (DatasetDict, IterableDatasetDict)) else {options.split: one}
        for name, source in parts.items():
            check_name("split", name)
            if isinstance(source, (str, Path)):
                splits[config, name] = RunSplit(Path(source).expanduser(), options.keep, options.allow, text_check)
            elif isinstance(source, (Dataset, IterableDataset)):
                splits[config, name] = DatasetSplit(
                    source, name, secret, options.keep, audit, options.allow, text_check
                )
            else:
                raise SetupError(
                    f"data of type {type(source).__name__} cannot be published; expected a run's folder or a dataset"
                )
    if not splits:
        raise SetupError("there is nothing to publish; expected a run's folder or a dataset")
    return splits
