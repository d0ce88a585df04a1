"""Ray drives a run: the same rows and the same files as on one machine, whatever dies on the way."""

import dataclasses
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

pytest.importorskip("ray", reason="ray is not installed: `make test-ray` installs it and runs these tests")

import ray.data
from ray.cluster_utils import Cluster

import u2s_datasets as u2s
from tests.helpers.fakes import RedSquares, Rewriter, Touchy, picture
from tests.helpers.hostile_images import write_hostile
from tests.helpers.run_files import files_of, private_rows
from tests.helpers.scripts import SEES
from u2s_datasets import columns as c
from u2s_datasets import images
from u2s_datasets.cli.main import main
from u2s_datasets.executor import ray as ray_engine
from u2s_datasets.executor import ray_blocks
from u2s_datasets.executor.ordering import RowRange
from u2s_datasets.executor.pipeline import Pipeline
from u2s_datasets.executor.pools import complete_pools, pool_steps
from u2s_datasets.sources.folder import FolderSource

pytestmark = pytest.mark.filterwarnings(
    "ignore::DeprecationWarning:ray.data.context"  # Ray's own settings warn of each other
)

RED = {"detectors": ["tests.helpers.fakes:RedSquares"], "shard_size": 16}
LISTEN = "0A"  # state of a listening socket in /proc/net/tcp


@pytest.fixture(scope="module")
def here():
    """A Ray on this machine for all tests but those that start their own."""
    with ray_engine.connected():
        yield


@pytest.fixture(scope="module")
def key(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("secret") / "key"
    path.write_text("0123456789abcdef" * 4)
    return path


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """Forty small pictures in two class folders, every third with a red square."""
    root = tmp_path_factory.mktemp("red")
    for i in range(40):
        path = root / ("zoe" if i % 2 else "anna") / f"holiday_{i:02d}.png"
        path.parent.mkdir(exist_ok=True)
        picture(red=i % 3 == 0, seed=i).save(path)
    return root


@pytest.fixture(scope="module")
def local(folder, key, tmp_path_factory) -> dict[str, str]:
    """Every file of the run on one machine, by digest."""
    out = tmp_path_factory.mktemp("local") / "out"
    u2s.run(folder, out, secret=key, num_proc=1, keep=["label"], **RED)
    return files_of(out)


@pytest.mark.parametrize("workers", [1, 3])
def test_the_same_files_as_on_one_machine(here, folder, key, local, tmp_path, workers):
    facts = u2s.run(folder, tmp_path / "out", secret=key, ray=True, num_proc=workers, keep=["label"], **RED)
    assert files_of(tmp_path / "out") == local
    assert facts["rates"]["workers"] == workers
    assert {name: s["rows"] for name, s in facts["rates"]["stages"].items()} == {
        "read": 40,
        "pipeline": 40,
        "write": 40,
    }
    assert facts["rates"]["bottleneck"] in facts["rates"]["stages"]
    assert json.loads((tmp_path / "out/run.json").read_text())["rates"] == facts["rates"]


def test_real_photos_and_hostile_files(here, photos, key, tmp_path):
    source = tmp_path / "in"
    shutil.copytree(photos, source / "photos")
    (source / "hostile").mkdir()
    write_hostile(source / "hostile")
    for name, options in (("local", {}), ("ray", {"ray": True})):
        u2s.run(source, tmp_path / name, secret=key, detectors=["faces"], shard_size=20, num_proc=2, **options)
    assert files_of(tmp_path / "ray") == files_of(tmp_path / "local")


def test_a_row_that_kills_its_process_is_withheld_and_no_other(here, key, tmp_path):
    (tmp_path / "in").mkdir()
    for i in range(20):
        picture(red=i % 2 == 0, corner=(0, 0, 255) if i == 5 else None, seed=i).save(tmp_path / f"in/{i:02d}.png")
    for name, options in (("local", {}), ("ray", {"ray": True})):
        u2s.run(
            tmp_path / "in",
            tmp_path / name,
            secret=key,
            detectors=["tests.helpers.fakes:Touchy"],
            num_proc=2,
            **options,
        )
    assert files_of(tmp_path / "ray") == files_of(tmp_path / "local")
    reasons = {row[c.SOURCE]: row[c.REASON] for row in private_rows(tmp_path / "ray")}
    assert {name: reason for name, reason in reasons.items() if reason} == {"05.png": "worker_died"}


def test_a_run_that_one_machine_began_is_finished_by_ray_and_the_other_way_round(here, folder, key, local, tmp_path):
    for first, second in (({}, {"ray": True}), ({"ray": True}, {})):
        out = tmp_path / f"out{len(first)}"
        options = {"secret": key, "num_proc": 2, "keep": ["label"], **RED}
        u2s.run(folder, out, **options, **first)
        (out / "data/part-00001.parquet").unlink()
        assert u2s.run(folder, out, **options, **second)["rates"]["rows"] == 16
        assert files_of(out) == local


def test_parquet_is_read_by_the_readers(here, key, tmp_path):
    values = [{"bytes": images.encode(picture(red=i % 3 == 0, seed=i), "png"), "path": None} for i in range(40)]
    table = pa.table({"image": values, "size": pa.array(range(40))})
    pq.write_table(table, tmp_path / "rows.parquet", row_group_size=7)
    for name, options in (("local", {}), ("ray", {"ray": True})):
        kept = {"keep": ["size"], "allow": ["size"]}
        u2s.run(tmp_path / "rows.parquet", tmp_path / name, secret=key, num_proc=1, **kept, **RED, **options)
    assert files_of(tmp_path / "ray") == files_of(tmp_path / "local")


class Cracked(FolderSource):
    """A source of which one row cannot be read, in any process but the one that made it."""

    owner, bad = 0, 20

    def read(self, start, stop):
        if start <= self.bad < stop and os.getpid() != self.owner:
            raise ValueError("a broken disk")
        return super().read(start, stop)


def test_a_row_that_an_ray_engineerror_carried_past_a_stage_is_withheld_and_no_other(here, folder):
    source = Cracked(folder, str(folder))
    source.owner = os.getpid()
    answers = engine(red_pipeline()).map(red_pipeline(), source, [RowRange(0, 0, 40)])
    rows = [row for _, rows in answers for row in rows]
    assert [row[c.SOURCE] for row in rows] == source.files
    [withheld] = [row for row in rows if row[c.STATUS] == c.WITHHELD]
    assert (withheld[c.SOURCE], withheld[c.REASON]) == (source.files[20], "error")
    assert withheld[c.ANONYMIZED_IMAGE] is None
    assert ray.data.DataContext.get_current().max_errored_blocks == 0


@dataclass(frozen=True)
class Deadly(RedSquares):
    """Kills not its own process but the worker of Ray above it, on an image with a pure blue pixel in its corner."""

    def _one(self, image):
        if tuple(image[0, 0]) == (0, 0, 255):
            os.kill(os.getppid(), signal.SIGKILL)
        return super()._one(image)


def test_a_row_that_kills_the_worker_of_ray_is_withheld_and_does_not_stop_the_run(here, key, tmp_path, monkeypatch):
    monkeypatch.setattr(ray_engine, "_RETRIES", 1)
    (tmp_path / "in").mkdir()
    for i in range(12):
        picture(red=i % 2 == 0, corner=(0, 0, 255) if i == 5 else None, seed=i).save(tmp_path / f"in/{i:02d}.png")
    u2s.run(tmp_path / "in", tmp_path / "out", secret=key, detectors=[f"{__name__}:Deadly"], ray=True, num_proc=1)
    reasons = {row[c.SOURCE]: row[c.REASON] for row in private_rows(tmp_path / "out")}
    assert {name: reason for name, reason in reasons.items() if reason} == {"05.png": "error"}
    assert len(reasons) == 12
    deadline = time.monotonic() + 20
    while ray.available_resources().get("CPU", 0) < ray.cluster_resources()["CPU"]:
        assert time.monotonic() < deadline, "a worker of a failed pass lives on, and the next run waits for its cores"
        time.sleep(0.2)


class Short(FolderSource):
    """A source that has lost its last rows since they were listed."""

    def read(self, start, stop):
        return super().read(start, min(stop, 36))


def test_a_source_that_gives_fewer_rows_than_it_listed_ends_the_run(here, folder):
    with pytest.raises(u2s.U2SError, match=r"4 rows that .* listed cannot be read any more"):
        list(engine(red_pipeline()).map(red_pipeline(), Short(folder, str(folder)), [RowRange(0, 0, 40)]))


def test_a_machine_that_cannot_see_the_source_says_so_and_withholds_nothing(here, folder):
    [table] = ray_engine._SharedSource(None, str(folder / "elsewhere")).read(RowRange(0, 0, 4), 10**6)
    assert "every machine needs the source in its place" in ray_blocks.fault_in(table)
    joined = pa.concat_tables([pa.table({ray_blocks.POSITION: [1]}), table], promote_options="default")
    assert ray_blocks.fault_in(joined) == ray_blocks.fault_in(table)


def engine(pipeline: Pipeline) -> ray_engine.RayPools:
    """One worker per pool, on this machine."""
    return ray_engine.RayPools(None, complete_pools(pipeline.profile, None, size=1))


def red_pipeline() -> Pipeline:
    return Pipeline(u2s.profile(detectors=["tests.helpers.fakes:RedSquares"]), b"0123456789abcdef")


def test_large_files_travel_in_several_blocks(folder):
    source = FolderSource(folder, str(folder))
    tables = list(ray_blocks.read_blocks(source, RowRange(2, 5, 25), 3000))
    assert len(tables) > 2
    rows = [row for table in tables for row in ray_blocks.RunBlocks(None).rows(table)]
    assert [item.source for item, _ in rows] == source.files[5:25]
    assert [p for table in tables for p in table[ray_blocks.POSITION].to_pylist()] == list(range(5, 25))
    whole = [path.read_bytes() for path in (folder / name for name in source.files[5:25])]
    assert [item.image["bytes"] for item, _ in rows] == whole


def test_every_model_has_a_pool_and_the_rows_stay_the_same(here, folder):
    steps = u2s.Anonymize(
        inspect=u2s.Inspect(detectors=(RedSquares(),), backend=SEES),
        caption=u2s.Caption(backend=SEES),
        instruct=u2s.Instruct(backend=dataclasses.replace(SEES, default="x")),
        editor=Rewriter(),
    )
    profile = u2s.Profile("models", steps, u2s.Score(inspect=steps.inspect))
    assert list(pool_steps(profile)) == ["inspect", "instruct", "anonymize"]
    source = FolderSource(folder, str(folder))
    pipeline = Pipeline(profile, b"0123456789abcdef")
    pools = engine(pipeline)
    rows = [row for _, rows in pools.map(pipeline, source, [RowRange(0, 0, 20)]) for row in rows]
    assert rows == pipeline(list(source.read(0, 20)))
    assert {row[c.STATUS] for row in rows} >= {c.ANONYMIZED}
    assert set(pools.rates.summary()["stages"]) == {"read", "inspect", "instruct", "anonymize"}


def test_a_dataset_of_ones_own(here, tmp_path):
    corners = [None, (0, 255, 0), (0, 0, 255), None]
    stored = [images.encode(picture(red=i == 0, corner=k, seed=i), "png") for i, k in enumerate(corners)]
    steps = u2s.Anonymize(inspect=u2s.Inspect(detectors=(Touchy(),)))
    profile = u2s.Profile("touchy", steps, u2s.Score(inspect=steps.inspect))
    pq.write_table(pa.table({"n": range(5), "image": [*stored, b"no image"]}), tmp_path / "rows.parquet")
    rows = ray.data.read_parquet(str(tmp_path / "rows.parquet"))
    made = sorted(u2s.ray_anonymize(rows, profile).take_all(), key=lambda row: row["n"])
    assert [row[c.STATUS] for row in made] == [c.ANONYMIZED, c.WITHHELD, c.WITHHELD, c.SAFE, c.WITHHELD]
    notes = [(row[c.NOTE] or "").split(":")[0] for row in made]
    assert notes == ["", "inspect_failed", "worker_died", "", "unreadable"]
    assert made[3][c.ANONYMIZED_IMAGE]["path"] is None
    assert images.decode(made[3][c.ANONYMIZED_IMAGE]["bytes"]).pixels.tobytes() == picture(seed=3).tobytes()
    assert set(made[0]) == {"n", "image", *c.INSPECT, *c.CAPTION, *c.INSTRUCT, *c.ANONYMIZE, *c.SCORE}


def test_pools_that_cannot_fit_are_refused_before_ray_waits_for_ever(here, folder, tmp_path):
    with pytest.raises(u2s.SetupError, match=r"ask for 64\.25 cores"):
        pools = {"pipeline": u2s.Pool(size=64, num_cpus=1)}
        u2s.run(folder, tmp_path / "out", ray=True, pools=pools, **RED)
    for dry_run in (True, False):
        with pytest.raises(u2s.SetupError, match="unknown pool 'caption' of profile 'cpu'; expected one of: pipeline"):
            u2s.run(folder, tmp_path / "out", ray=True, pools={"caption": u2s.Pool()}, dry_run=dry_run, **RED)
    for wrong in ({"size": 1.5}, {"size": 0}, {"batch_size": "8"}, {"num_cpus": -1}, {"num_gpus": "half"}):
        with pytest.raises(u2s.SetupError, match=rf"pools\['pipeline'\]\.{next(iter(wrong))}="):
            u2s.run(folder, tmp_path / "out", ray=True, pools={"pipeline": u2s.Pool(**wrong)}, **RED)


def test_a_model_that_cannot_be_loaded_stops_the_run_with_its_own_words(here, folder, tmp_path):
    with pytest.raises(u2s.SetupError, match=r"zebra\.onnx is missing; run: get zebra"):
        u2s.run(folder, tmp_path / "out", ray=True, detectors=["tests.helpers.fakes:BrokenEngine"])
    assert not list((tmp_path / "out").glob("data/*"))


def test_a_cluster_of_two_loses_a_worker_then_a_machine(folder, key, tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(p for p in sys.path if p))
    ray.shutdown()
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
    try:
        second = cluster.add_node(num_cpus=1)
        cluster.wait_for_nodes()
        out, options = tmp_path / "out", {"secret": key, "limit": 32, "shard_size": 4}
        options["detectors"] = ["tests.helpers.fakes:Slow"]
        slow = tmp_path / "local"
        u2s.run(folder, slow, num_proc=2, **options)
        call = {"ray_address": cluster.address, "ray": True, **options}
        run = threading.Thread(target=u2s.run, args=(folder, out), kwargs=call, daemon=True)
        run.start()
        wait_for_shards(out, 1)
        os.kill(int(worker_processes()[0]), signal.SIGKILL)
        wait_for_shards(out, 3)
        cluster.remove_node(second, allow_graceful=False)
        run.join(120)
        assert not run.is_alive()
        assert files_of(out) == files_of(slow)
    finally:
        ray.shutdown()
        cluster.shutdown()


def test_the_driver_is_killed_and_started_again(folder, key, tmp_path):
    words = ["anonymize", str(folder), "--secret", str(key), "--ray", "--detectors", "tests.helpers.fakes:Slow"]
    words += ["--shard-size", "4", "-q", "--num-proc", "2", "--limit", "24", "--out"]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}
    call = [sys.executable, "-m", "u2s_datasets.cli.main", *words, str(tmp_path / "out")]
    process = subprocess.Popen(call, env=environment)
    wait_for_shards(tmp_path / "out", 2)
    process.kill()
    process.wait()
    done = len(list((tmp_path / "out/data").glob("*.parquet")))
    assert 2 <= done < 6 and not (tmp_path / "out/run.json").exists()
    subprocess.run(call, env=environment, check=True)
    rates = json.loads((tmp_path / "out/run.json").read_text())["rates"]
    assert rates["rows"] <= 24 - 4 * (done - 1)
    u2s.run(
        folder,
        tmp_path / "local",
        secret=key,
        num_proc=2,
        limit=24,
        shard_size=4,
        detectors=["tests.helpers.fakes:Slow"],
    )
    assert files_of(tmp_path / "out") == files_of(tmp_path / "local")


def test_the_command_names_the_bottleneck(here, folder, tmp_path, capsys):
    call = ["anonymize", str(folder), "--out", str(tmp_path / "out"), "--ray", "--detectors", *RED["detectors"]]
    assert main([*call, "--pool", "pipeline:size=2,num_cpus=0.5"]) == 0
    printed = capsys.readouterr().out
    assert "40 rows = " in printed
    assert printed.count("<- bottleneck") == 1 and "stage pipeline   2 x" in printed
    stages = json.loads((tmp_path / "out/run.json").read_text())["rates"]["stages"]
    assert all(0 <= stage["busy"] <= 1.1 for stage in stages.values())


def test_what_ray_starts_here_listens_on_loopback_alone_and_keeps_its_files_to_itself():
    ray.shutdown()
    with ray_engine.connected():
        ray.get(ray.remote(lambda: 1).remote())
        addresses = listening(descendants(os.getpid()))
        session = Path(ray._private.worker._global_node.get_session_dir_path())
        assert session.parents[1].stat().st_mode & 0o777 == 0o700
        with (
            pytest.raises(u2s.SetupError, match=r"connected to the Ray at 127\.0\.0\.1:\d+, not '10\.0\.0\.1:6379'"),
            ray_engine.connected("10.0.0.1:6379"),
        ):
            pass
    assert not session.parents[1].exists()
    assert addresses
    assert {a for a in addresses if not a.endswith("0100007F")} == set()


def wait_for_shards(out: Path, number: int) -> None:
    end = time.monotonic() + 120
    while len(list((out / "data").glob("*.parquet"))) < number:
        assert time.monotonic() < end, f"{number} shards did not come in two minutes"
        time.sleep(0.05)


def worker_processes() -> list[str]:
    """Process ids of the workers of pools, among those that this process started."""
    ours = descendants(os.getpid())
    lines = subprocess.run(["ps", "-eo", "pid,args"], capture_output=True, text=True, check=True).stdout.splitlines()
    found = [line.split()[0] for line in lines if "ray::MapWorker" in line or "ray::MapBatches(Stage)" in line]
    return [pid for pid in found if int(pid) in ours]


def descendants(pid: int) -> set[int]:
    """This process and all that it started."""
    lines = subprocess.run(["ps", "-eo", "pid,ppid"], capture_output=True, text=True, check=True).stdout.splitlines()
    found, pairs = {pid}, [tuple(map(int, line.split())) for line in lines[1:]]
    while more := {child for child, parent in pairs if parent in found} - found:
        found |= more
    return found


def listening(pids: set[int]) -> set[str]:
    """Local addresses, in hexadecimal as in /proc/net/tcp, on which these processes listen."""
    sockets = set()
    for link in (link for pid in pids for link in Path(f"/proc/{pid}/fd").glob("*")):
        if link.is_symlink() and "socket:[" in (name := str(link.readlink())):
            sockets.add(name[8:-1])
    rows = [line.split() for kind in ("tcp", "tcp6") for line in Path(f"/proc/net/{kind}").read_text().splitlines()[1:]]
    return {row[1].split(":")[0] for row in rows if row[3] == LISTEN and row[9] in sockets}
