"""The whole job on one machine: a source in, a folder of safe shards out, resumable at any moment."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from u2s_datasets import columns
from u2s_datasets.errors import SetupError, U2SError
from u2s_datasets.executor.plan import RunPlan, counts
from u2s_datasets.executor.pools import pools_of
from u2s_datasets.parts import Editor, checks
from u2s_datasets.privacy.criteria import CriteriaLike
from u2s_datasets.review.decisions import read_manifest
from u2s_datasets.runs.object_store import output_at
from u2s_datasets.runs.writer import Output, check_apart
from u2s_datasets.sources.open import Source, open_source
from u2s_datasets.stages.profiles import Backends, Profile, profile

if TYPE_CHECKING:
    from PIL.Image import Image

    from u2s_datasets.executor.pools import Pool
    from u2s_datasets.executor.ray import RayPools


def run(
    src: str | Path,
    out: str | Path,
    *,
    profile_name: str = "cpu",
    detectors: Sequence[str] | None = None,
    editor: str | Editor | None = None,
    editor_options: Mapping[str, Any] | None = None,
    backend: Backends = None,
    models: Mapping[str, str] | None = None,
    small: bool = False,
    dtype: str | None = None,
    device: str | None = None,
    criteria: CriteriaLike | None = None,
    threshold: float | None = None,
    method: str | None = None,
    groups: tuple[str, ...] | str | None = None,
    seed: int = 0,
    format: str = "auto",
    verify: bool = True,
    prior: str = columns.EDIT_CAPTION,
    label_column: str | None = None,
    split: str | None = None,
    image_column: str | None = None,
    keep: Sequence[str] = (),
    allow: Sequence[str] = (),
    secret: str | Path | None = None,
    limit: int | None = None,
    shard_size: int = 256,
    num_proc: int | None = None,
    ray: bool = False,
    ray_address: str | None = None,
    pools: Mapping[str, Pool] | None = None,
    dry_run: bool = False,
    progress: bool = False,
) -> dict[str, Any]:
    """Anonymize a source into a folder; continue where an earlier call with the same arguments was stopped.

    Rows that were withheld stay withheld when a call is repeated, also those that killed their process.

    Args:
        src: a folder of images, parquet, tar shards, a saved dataset, or a Hub dataset id "ORG/NAME"; see
            `sources.open_source`.
        out: the output folder, see `output.py` for what lies where; or "s3://bucket/folder" or another address of
            an object store, see `store_output.py`.
        profile_name, detectors, editor, editor_options, backend, models, small, dtype, device, criteria, threshold,
            method, groups, seed, format, verify, prior, label_column: what is done; see `ProfileOptions` and
            `Anonymize`. The label column is one of those in `keep`.
        split, image_column, keep, allow: what is read; see `sources.open_source`.
        secret: file with the key of the row ids; without it one is made and kept in `private/`.
        limit: at most so many rows, the first ones.
        shard_size: source rows per shard.
        num_proc: worker processes; where none, one per core, as far as the memory goes, or with models one per GPU.
            1 works in this process: a row that crashes the interpreter ends the run.
        ray: whether Ray drives the run; with it, `num_proc` is the workers of every stage.
        ray_address: of a running Ray cluster, such as "10.0.0.1:6379"; None starts Ray on this machine for the run.
        pools: workers by stage, for Ray; see `pools.Pool`.
        dry_run: look at everything and write nothing.
        progress: show a progress bar on standard error.

    Returns:
        What `run.json` holds: counts, reasons, configuration, versions, rates.

    Raises:
        SetupError: before the first row, naming the value and the remedy.
    """
    _check_numbers(limit=limit, shard_size=shard_size, num_proc=num_proc)
    engine = _engine(ray, ray_address, pools, num_proc)
    made = output_at(out)
    chosen = profile(
        profile_name,
        detectors=detectors,
        editor=editor,
        editor_options=editor_options,
        backend=backend,
        models=models,
        small=small,
        dtype=dtype,
        device=device,
        criteria=criteria,
        threshold=threshold,
        method=method,
        groups=groups,
        seed=seed,
        format=format,
        verify=verify,
        prior=prior,
        label_column=label_column,
    )
    if engine is not None:
        pools_of(chosen, pools)
    check_apart(src, out)
    source = open_source(str(src), split=split, image_column=image_column, keep=keep, allow=allow)
    _check_read(source, chosen)
    chosen = chosen.with_engine("openvino", threads=1)
    rows = min(len(source), limit or len(source))
    plan = RunPlan(source, chosen, rows, shard_size, num_proc, split, image_column, engine)
    if dry_run:
        return {**plan.facts(), "dry_run": True}
    with made as output:
        key = output.secret(Path(secret).expanduser() if secret else None)
        shards = output.manifest(plan.binding(key))
        rates = plan.work(output, shards, key, progress)
        facts = {**plan.facts(), **counts(shards, plan.rows), "rates": rates}
        _finish(output, source, facts)
    return facts


def _engine(ray: bool, address: str | None, pools: Mapping[str, Pool] | None, size: int | None) -> RayPools | None:
    if ray:
        from u2s_datasets.executor.ray import RayPools

        return RayPools(address, pools, size)
    if address is not None:
        raise SetupError(f"ray_address={address!r} (--ray-address) is for ray=True (--ray); say that too")
    if pools is not None:
        raise SetupError(f"pools for {', '.join(pools)} (--pool) are for ray=True (--ray); say that too")
    return None


def _finish(output: Output, source: Source, facts: dict[str, Any]) -> None:
    from u2s_datasets.evaluation.report.report import write_reports

    text = json.dumps(facts, indent=1, sort_keys=True, ensure_ascii=False) + "\n"
    output.write(output.root / "run.json", text.encode("utf-8", "backslashreplace"))
    output.gather()
    try:
        write_reports(output.root, original=source.original)  # it counts the rows once more, in the files themselves
    except U2SError:
        output.withdraw()
        raise
    output.publish()


def rewrite_reports(out: str | Path) -> None:
    """Write both pages of a finished run again; originals are shown where the source is still in its place.

    Raises:
        SetupError: the folder holds no finished run.
    """
    from u2s_datasets.evaluation.report.report import write_reports

    root = Path(out).expanduser()
    original = originals_of(root)
    with Output(root) as output:
        write_reports(output.root, original=original)


def originals_of(root: Path) -> Callable[[str], Image | None] | None:
    """Gives the originals of a finished run; none where its source is not in its place any more.

    Raises:
        SetupError: the folder holds no finished run, or a damaged one.
    """
    return _original(read_manifest(root))


def _original(known: dict[str, Any]) -> Callable[[str], Image | None] | None:
    """Gives the originals of a manifest's run; none where its source is not in its place.

    Only a dataset that came from the Hub is looked for there: the name of a folder is nobody else's business.
    """
    if known["source_kind"] != "dataset" and not Path(known["source"]).exists():
        return None
    try:
        source = open_source(known["source"], image_column=known["image_column"], split=known["split"])
    except (SetupError, OSError):
        return None
    return source.original if source.kind == known["source_kind"] else None


def _check_read(source: Source, chosen: Profile) -> None:
    """Raise `SetupError` where a column that a step is to read is not among those that are read."""
    for name in chosen.anonymize.required():
        if source.kind == "folder":
            raise SetupError(
                f"label_column={name!r} is read from a dataset or parquet alone: what a folder is called is no class"
            )
        if name not in source.kept:
            raise SetupError(f"label_column={name!r} is no kept column; name it in --keep as well")


def _check_numbers(**numbers: int | None) -> None:
    for name, value in numbers.items():
        if value is not None:
            checks.whole(name, value)
