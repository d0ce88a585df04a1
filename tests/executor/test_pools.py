"""How many workers each stage gets on which machines, and what is refused because an engine would wait for ever."""

from dataclasses import dataclass
from typing import ClassVar

import pyarrow as pa
import pytest

import u2s_datasets as u2s
from tests.helpers.fakes import RedSquares, Rewriter
from u2s_datasets.executor.pipeline import Pipeline
from u2s_datasets.executor.pools import complete_pools, size_pools
from u2s_datasets.executor.ray_blocks import UserBlocks
from u2s_datasets.parts.backends.scripted import Scripted


@dataclass(frozen=True)
class Sees(Scripted):
    """A vision-language model, as far as its place goes."""

    on_gpu: ClassVar[bool] = True


@dataclass(frozen=True)
class Paints(Rewriter):
    """A diffusion editor, as far as its place goes."""

    on_gpu: ClassVar[bool] = True


def with_models() -> Pipeline:
    """Three stages that each load a model."""
    inspect = u2s.Inspect(detectors=(RedSquares(),), backend=Sees())
    instruct = u2s.Instruct(backend=Sees(default="another"))
    steps = u2s.Anonymize(inspect=inspect, caption=u2s.Caption(backend=Sees()), instruct=instruct, editor=Paints())
    return Pipeline(u2s.Profile("models", steps, u2s.Score(inspect=inspect)), b"0123456789abcdef")


MODELS = with_models()
PLAIN = Pipeline(u2s.profile(), b"0123456789abcdef")


def machines(number: int, cpus: float, gpus: float = 0, gigabytes: float = 64) -> list[dict]:
    resources = {"CPU": cpus, "GPU": gpus, "memory": gigabytes * 2**30}
    return [{"Alive": True, "Resources": resources} for _ in range(number)]


def placed(pipeline, nodes, **given) -> dict[str, tuple]:
    """Pool -> (workers, cores each, GPUs each)."""
    pools = size_pools(pipeline, complete_pools(pipeline.profile, given), nodes, 0.25)
    return {name: (pool.size, pool.num_cpus, pool.num_gpus) for name, pool in pools.items()}


def test_without_models_one_worker_per_core_as_far_as_the_memory_goes():
    assert placed(PLAIN, machines(1, 16)) == {"pipeline": (16, 0.75, 0)}
    assert placed(PLAIN, machines(1, 16, gigabytes=20)) == {"pipeline": (10, 0.75, 0)}
    assert placed(PLAIN, machines(3, 2)) == {"pipeline": (6, 0.75, 0)}


@pytest.mark.parametrize(
    ("nodes", "workers", "share"),
    [
        (machines(1, 8, 1), 1, 0.33),
        (machines(1, 8, 2), 1, 0.5),
        (machines(1, 8, 3), 1, 1),
        (machines(2, 16, 8), 5, 1),
        (machines(1, 64), 1, 0),  # no GPU: every worker loads whole models
    ],
)
def test_models_share_what_gpus_there_are(nodes, workers, share):
    found = placed(MODELS, nodes)
    assert {(size, gpus) for size, _, gpus in found.values()} == {(workers, share)}


@pytest.mark.parametrize(
    ("pipeline", "nodes", "given", "message"),
    [
        (PLAIN, machines(2, 4), {"pipeline": u2s.Pool(size=1, num_cpus=7)}, "no machine has 7 cores and 0 GPUs left"),
        (MODELS, machines(4, 8, 1), {"anonymize": u2s.Pool(size=1, num_gpus=2)}, "2 GPUs left for a worker of pool"),
        (MODELS, machines(1, 8, 4), {"anonymize": u2s.Pool(size=9)}, "ask for 11 GPUs and the cluster has 4"),
        (PLAIN, machines(1, 2), {"pipeline": u2s.Pool(size=200)}, "200 workers are more than 2 cores can serve"),
        (PLAIN, machines(1, 2), {"pipeline": u2s.Pool(size=2, num_cpus=1)}, "ask for 2.25 cores and the cluster has 2"),
    ],
)
def test_what_no_machine_can_hold_is_refused(pipeline, nodes, given, message):
    with pytest.raises(u2s.SetupError, match=message):
        size_pools(pipeline, complete_pools(pipeline.profile, given), nodes, 0.25)


@pytest.mark.parametrize("values", [[["a.png"]], [3], ["a grey cat", "two dogs"]])
def test_a_column_of_a_users_table_that_can_hold_no_image_is_a_fault_of_the_call(values):
    blocks = UserBlocks(Pipeline(u2s.profile("cpu"), b""))
    with pytest.raises(u2s.SetupError, match=r"column 'image' holds .*, not images"):
        blocks.rows(pa.table({"image": values}))
