"""The options of a run, declared once: `u2s.run`, `u2s anonymize` and the help texts of both are made from here.

A new option is a field and its docstring line here, an argument in the signature of `run`, and the place that uses it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from u2s_datasets import columns
from u2s_datasets.errors import SetupError
from u2s_datasets.parts import checks
from u2s_datasets.stages.changes import ProfileChanges

if TYPE_CHECKING:
    from u2s_datasets.executor.pools import Pool
    from u2s_datasets.parts import TextCheck


@dataclass(frozen=True)
class ProfileOptions(ProfileChanges):
    """What is done with every row: a profile, and what is changed of it.

    Args:
        profile_name: named set of parts; see `u2s profiles`.
        seed: seed of the run; each row's own is derived from it.
        format: auto (JPEG stays JPEG, lossless stays lossless), jpeg, png or webp.
        prior: text that a rewriting editor draws: private_caption, class_name, public_caption, edit_instruction or
            edit_caption.
        label_column: for the prior class_name, the kept column with the classes.
        verify: inspect the output again; otherwise it is marked as unverified.
    """

    profile_name: str = "cpu"
    seed: int = 0
    format: str = "auto"
    prior: str = columns.EDIT_CAPTION
    label_column: str | None = None
    verify: bool = True


@dataclass(frozen=True)
class RunOptions(ProfileOptions):
    """Everything that a run can be told besides its source and its output.

    Args:
        split: split of a dataset that has several.
        image_column: image column of a dataset; default: found by its type.
        keep: columns to publish along; 'label' is the class folder of a file.
        allow: kept columns that may pass although they look identifying; texts of theirs are not searched for names
            unless a text check is given.
        text_check: name of a recognizer of names in kept texts, or in Python one as it is; default: none, and texts
            are kept of allowed columns only.
        text_check_options: arguments of the text check, such as model=en_core_web_lg; see docs/publishing.md.
        limit: only this many rows, the first ones.
        secret: file with the key of the row ids; default: made and kept in private/.
        shard_size: source rows per shard.
        num_proc: worker processes, with Ray those of each stage; default: one per core, memory permitting, or with
            models one per GPU. 1 works in this process, where a row that crashes the interpreter ends the run.
        ray: let Ray drive the run.
        ray_address: address of a running Ray cluster, such as 10.0.0.1:6379; default: one on this machine for the run.
        pools: with Ray, the workers of each stage: their number (size), and of each num_cpus, num_gpus (or a fraction)
            and batch_size; see docs/scale.md.
        dry_run: check and count everything, and write nothing; the command also looks at a sample, and says in numbers
            and on a page of pictures beside the output what would be hidden.
        progress: show a progress bar on standard error.

    Raises:
        SetupError: a number that cannot work, or an option of Ray without it.
    """

    split: str | None = None
    image_column: str | None = None
    keep: Sequence[str] = ()
    allow: Sequence[str] = ()
    text_check: str | TextCheck | None = None
    text_check_options: Mapping[str, Any] | None = None
    limit: int | None = None
    secret: str | Path | None = None
    shard_size: int = 256
    num_proc: int | None = None
    ray: bool = False
    ray_address: str | None = None
    pools: Mapping[str, Pool] | None = None
    dry_run: bool = False
    progress: bool = False

    def __post_init__(self) -> None:
        for name in ("limit", "shard_size", "num_proc"):
            if (value := getattr(self, name)) is not None:
                checks.check_int(name, value)
        if self.ray:
            return
        if self.ray_address is not None:
            raise SetupError(f"ray_address={self.ray_address!r} (--ray-address) needs ray=True (--ray); add it")
        if self.pools is not None:
            raise SetupError(f"pools for {', '.join(self.pools)} (--pool) need ray=True (--ray); add it")
