"""How many workers each stage gets, and of what: numbers for a cluster, refused where they cannot fit."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from u2s_datasets.errors import SetupError
from u2s_datasets.executor.local import WORKER_BYTES
from u2s_datasets.executor.ordering import LONGEST
from u2s_datasets.executor.pipeline import Pipeline
from u2s_datasets.executor.pool_work import PoolWork, pool_names
from u2s_datasets.stages.profiles import Profile


@dataclass(frozen=True)
class Pool:
    """The workers of one stage.

    Args:
        size: workers; None for one per core (or per GPU) of the cluster, as far as its memory goes, and for one where
            a stage wants a GPU and there is none.
        num_cpus: cores that Ray sets aside for each; None for three quarters of one, or less where there are few. The
            rest is for those that read: with none left, nothing would ever be read.
        num_gpus: GPUs for each, or a fraction of one; None for 1 where the stage loads a model that wants one, or for
            less where there are fewer GPUs than such stages.
        batch_size: rows that a worker gets at once; None for those of one block, or 32 where a model wants a GPU.
    """

    size: int | None = None
    num_cpus: float | None = None
    num_gpus: float | None = None
    batch_size: int | None = None

    def check(self, name: str) -> None:
        """Raises `SetupError` for a number that cannot work."""
        for said, value in (("size", self.size), ("batch_size", self.batch_size)):
            if value is not None and not (type(value) is int and value >= 1):
                raise SetupError(f"pool {name!r}: {said}={value!r} is no whole number of 1 or more; give one")
        for said, number in (("num_cpus", self.num_cpus), ("num_gpus", self.num_gpus)):
            if number is not None and not (type(number) in (int, float) and 0 <= number < math.inf):
                raise SetupError(f"pool {name!r}: {said}={number!r} is no number of 0 or more; give one, or a fraction")


def pools_of(profile: Profile, given: Mapping[str, Pool] | None = None) -> dict[str, Pool]:
    """Name -> pool, the profile's own with those that were given in their place.

    Raises:
        SetupError: the profile has no such pool, or a pool's number cannot work.
    """
    names = pool_names(profile)
    for name, pool in (given or {}).items():
        if name not in names:
            raise SetupError(f"pools: the profile {profile.name!r} has no pool {name!r}; it has {', '.join(names)}")
        pool.check(name)
    return {name: (given or {}).get(name, Pool()) for name in names}


def fit(
    pipeline: Pipeline, given: Mapping[str, Pool] | None, machines: Sequence[Mapping[str, Any]], reader_cpus: float
) -> dict[str, Pool]:
    """The pools with numbers in place of their Nones, for a cluster of these machines.

    Args:
        pipeline: the steps.
        given: pools in place of the default ones.
        machines: each with "Alive" and its "Resources": "CPU", "GPU" and "memory" in bytes, as far as it has them.
        reader_cpus: what one reader needs.

    Raises:
        SetupError: they do not fit beside a reader: an engine would wait for ever.
    """
    pools = pools_of(pipeline.profile, given)
    nodes = [machine["Resources"] for machine in machines if machine["Alive"]]
    cores, gpus = (sum(node.get(what, 0) for node in nodes) for what in ("CPU", "GPU"))
    room = max(1, sum(min(int(n.get("CPU", 0)), int(n.get("memory", 0) // WORKER_BYTES)) for n in nodes))
    on_gpu = {name: PoolWork(pipeline, name).on_gpu() for name in pools}
    kin = Counter(on_gpu.values())
    even_gpus = math.floor(100 / math.ceil(kin[True] / gpus)) / 100 if gpus and kin[True] else 0.0
    for name, pool in pools.items():
        wants = on_gpu[name]
        share = pool.num_gpus if pool.num_gpus is not None else even_gpus * wants
        most = int(gpus / share) if share else 1 if wants else room  # without a GPU, one: it loads whole models
        size = pool.size or max(1, most // (kin[wants] if share or not wants else 1))
        pools[name] = replace(
            pool, num_gpus=share, size=size, batch_size=pool.batch_size or (LONGEST if wants else None)
        )
    workers = sum(p.size or 1 for p in pools.values())
    even = min(0.75, max(0, int(100 * (cores - reader_cpus) / workers)) / 100)
    pools = {n: p if p.num_cpus is not None else replace(p, num_cpus=even) for n, p in pools.items()}
    if even == 0:
        raise SetupError(f"{workers} workers are more than {cores:g} cores can serve; give the pools fewer")
    _check_room("cores", sum((p.size or 1) * (p.num_cpus or 0) for p in pools.values()) + reader_cpus, cores)
    _check_room("GPUs", sum((p.size or 1) * (p.num_gpus or 0) for p in pools.values()), gpus)
    _check_places(pools, nodes, reader_cpus)
    return pools


def _check_room(what: str, asked: float, there: float) -> None:
    if asked > there + 1e-6:
        raise SetupError(
            f"the pools, and one reader beside them, ask for {asked:g} {what} and the cluster has {there:g}; "
            "give the pools fewer workers, or fractions"
        )


def _check_places(pools: Mapping[str, Pool], nodes: Sequence[Mapping[str, Any]], reader_cpus: float) -> None:
    """Raise `SetupError` unless every worker finds a machine, the largest first, and a reader too."""
    free = [[node.get("GPU", 0.0), node.get("CPU", 0.0)] for node in nodes]
    asked = [
        (p.num_gpus or 0.0, p.num_cpus or 0.0, f"a worker of pool {n!r}")
        for n, p in pools.items()
        for _ in range(p.size or 1)
    ]
    for gpus, cpus, what in (*sorted(asked, reverse=True), (0.0, reader_cpus, "a reader")):
        place = next((f for f in free if f[0] + 1e-6 >= gpus and f[1] + 1e-6 >= cpus), None)
        if place is None:
            raise SetupError(
                f"no machine has {cpus:g} cores and {gpus:g} GPUs left for {what}; "
                "give the pools fewer workers, or fractions"
            )
        place[0] -= gpus
        place[1] -= cpus
