"""All five arrows on a Ray dataset, for pipelines of one's own. Ray itself is imported when it is called."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from u2s_datasets.errors import SetupError
from u2s_datasets.executor.pipeline import Pipeline
from u2s_datasets.executor.pools import Pool
from u2s_datasets.executor.ray_blocks import UserBlocks
from u2s_datasets.stages import profiles

if TYPE_CHECKING:
    from ray.data import Dataset


def ray_anonymize(
    ray_dataset: Dataset, profile: profiles.Profile | None = None, *, pools: Mapping[str, Pool] | None = None
) -> Dataset:
    """A Ray dataset with the columns of all five arrows; nothing but its schema is read before the rows are.

    As with `Dataset.map`, the original stays beside its anonymized image: of what is here, publish the columns that
    `columns.PUBLIC` names, and no others. A row that killed the process which worked on it is withheld; rows that Ray
    itself leaves out, where its settings allow it to, are missing from the answer, so count them.

    Args:
        ray_dataset: rows with a column of images: encoded bytes, `{bytes, path}`, paths that every node can read, or
            tensors (H, W, 3) uint8.
        profile: the steps; the profile `cpu` where none is given.
        pools: workers by the names of `pools.pool_names`, in place of the default ones.

    Raises:
        MissingExtra: Ray is not installed.
        SetupError: no such column or pool, or more workers than the cluster has room for.
    """
    from u2s_datasets.executor.ray import through

    chosen = profile or profiles.profile()
    chosen.anonymize.check()
    names = ray_dataset.columns() or []
    for name in (chosen.anonymize.image_column, *chosen.anonymize.required()):
        if name not in names:
            raise SetupError(f"there is no column {name!r}; the columns are {names}")
    pipeline = Pipeline(chosen.with_engine("openvino", threads=1), b"")
    return through(ray_dataset, UserBlocks(pipeline), pools)
