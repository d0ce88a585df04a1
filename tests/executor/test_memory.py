"""Limits on memory, read from machines that are written down as files, and from this one."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from u2s_datasets.executor import memory
from u2s_datasets.executor.local import WORKER_BYTES

GIB = 2**30
NO_LIMIT_V1 = 9223372036854771712
V1 = "36 25 0:31 {inside} /sys/fs/cgroup/memory rw,nosuid shared:9 - cgroup cgroup rw,memory"
V2 = "30 24 0:26 {inside} /sys/fs/cgroup rw,nosuid - cgroup2 cgroup2 rw,nsdelegate"
MEMINFO = "MemTotal:       67108864 kB\nMemFree:         1000 kB\nMemAvailable:   50331648 kB\n"  # 64 and 48 GiB


def machine(root: Path, cgroup: str, mountinfo: str, files: dict[str, object]) -> Path:
    """A root with /proc and the files of control groups."""
    proc = {"proc/meminfo": MEMINFO, "proc/self/cgroup": cgroup, "proc/self/mountinfo": mountinfo}
    for name, content in {**proc, **files}.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(f"{content}\n")
    return root


def limits(root: Path) -> list[tuple[str, int, int]]:
    return [(str(Path(limit.name).relative_to(root)), limit.size, limit.left) for limit in memory.limits(root)]


def test_without_groups_the_machine_is_the_limit(tmp_path):
    assert limits(machine(tmp_path, "", "", {})) == [("proc/meminfo", 64 * GIB, 48 * GIB)]
    (tmp_path / "proc/meminfo").unlink()
    assert memory.tightest(tmp_path).left > 0


@pytest.mark.parametrize(
    ("inner", "outer"), [("max", 3 * GIB), (3 * GIB, "max"), (4 * GIB, 3 * GIB), (3 * GIB, 4 * GIB)]
)
def test_the_least_of_nested_groups_of_version_2_counts(tmp_path, inner, outer):
    top = "sys/fs/cgroup"
    files = {f"{top}/pod/memory.max": outer, f"{top}/pod/box/memory.max": inner, f"{top}/pod/box/memory.current": GIB}
    files |= {f"{top}/pod/memory.current": GIB, f"{top}/pod/box/memory.high": "max"}
    root = machine(tmp_path, "0::/pod/box", V2.format(inside="/"), files)
    assert [group.folder.relative_to(root).as_posix() for group in memory.groups(root)] == [
        f"{top}/pod/box",
        f"{top}/pod",
        top,
    ]
    assert (memory.tightest(root).size, memory.tightest(root).left) == (3 * GIB, 2 * GIB)


@pytest.mark.parametrize(("inner", "outer"), [(NO_LIMIT_V1, 3 * GIB), (3 * GIB, NO_LIMIT_V1), (9 * GIB, 3 * GIB)])
def test_the_least_of_nested_groups_of_version_1_counts(tmp_path, inner, outer):
    top = "sys/fs/cgroup/memory"
    files = {f"{top}/pod/memory.limit_in_bytes": outer, f"{top}/pod/box/memory.limit_in_bytes": inner}
    files |= {f"{top}/memory.limit_in_bytes": NO_LIMIT_V1}
    root = machine(tmp_path, "9:name=systemd:/\n4:cpu,memory:/pod/box\n0::/", V1.format(inside="/"), files)
    assert memory.tightest(root).size == 3 * GIB
    assert all(size < 2**60 for _, size, _ in limits(root))


@pytest.mark.parametrize(
    ("cgroup", "inside"),
    [
        ("0::/", "/"),  # a namespace of its own
        ("0::/docker/4711", "/docker/4711"),  # its own group mounted as the root
        ("0::/../../elsewhere", "/"),  # moved out of its namespace
        ("0::/docker/4711", "/"),  # told the path outside
        ("0::/not/below", "/docker/4711"),
    ],
)
def test_a_container_finds_its_own_group(tmp_path, cgroup, inside):
    files = {"sys/fs/cgroup/memory.max": 2 * GIB, "sys/fs/cgroup/memory.current": GIB}
    root = machine(tmp_path, cgroup, V2.format(inside=inside), files)
    assert limits(root)[1:] == [("sys/fs/cgroup/memory.max", 2 * GIB, GIB)]


def test_a_limit_above_what_a_container_sees_is_known_in_version_1(tmp_path):
    top = "sys/fs/cgroup/memory"
    files = {f"{top}/memory.limit_in_bytes": NO_LIMIT_V1, f"{top}/memory.stat": f"hierarchical_memory_limit {2 * GIB}"}
    root = machine(tmp_path, "4:memory:/docker/4711", V1.format(inside="/docker/4711"), files)
    assert limits(root)[1:] == [(f"{top}/memory.stat", 2 * GIB, 2 * GIB)]


def test_pages_of_files_that_nobody_used_lately_are_free(tmp_path):
    v2 = {"memory.max": 4 * GIB, "memory.current": 3 * GIB, "memory.stat": f"anon 7\ninactive_file {2 * GIB}"}
    root = machine(tmp_path, "0::/", V2.format(inside="/"), {f"sys/fs/cgroup/{n}": v for n, v in v2.items()})
    assert memory.tightest(root).left == 3 * GIB


def test_throttling_comes_before_killing(tmp_path):
    files = {"sys/fs/cgroup/memory.max": 8 * GIB, "sys/fs/cgroup/memory.high": 2 * GIB}
    assert memory.tightest(machine(tmp_path, "0::/", V2.format(inside="/"), files)).size == 2 * GIB


@pytest.mark.parametrize("line", ["", "0", "::", "x:memory", "4:memory:", "0::relative"])
def test_files_that_make_no_sense_set_no_limit(tmp_path, line):
    mounts = f"36 25\n{V2.format(inside='/')} extra\n - cgroup2\n36 25 0:31 / /nowhere rw - cgroup"
    root = machine(tmp_path, line, mounts, {"sys/fs/cgroup/memory.max": "many", "sys/fs/cgroup/memory.stat": "x"})
    assert memory.tightest(root).left == 48 * GIB


def test_kills_are_counted_in_every_group_and_on_the_machine(tmp_path):
    files = {"sys/fs/cgroup/pod/memory.events": "low 0\noom 5\noom_kill 2", "proc/vmstat": "nr_free 1\noom_kill 30"}
    root = machine(tmp_path, "0::/pod", V2.format(inside="/"), files)
    assert memory.oom_kills(root) == 32
    (tmp_path / "proc/self/cgroup").write_text("4:memory:/pod")
    (tmp_path / "proc/self/mountinfo").write_text(V1.format(inside="/"))
    (tmp_path / "sys/fs/cgroup/memory/pod").mkdir(parents=True)
    (tmp_path / "sys/fs/cgroup/memory/pod/memory.oom_control").write_text("under_oom 0\noom_kill 3\n")
    assert memory.oom_kills(root) == 33


def test_a_limited_address_space_is_a_limit_of_this_process():
    code = (
        "import resource; resource.setrlimit(resource.RLIMIT_AS, (3 * 2**30, 3 * 2**30));"
        "from u2s_datasets.executor import local, memory;"
        "print(local.default_number(), memory.address_space()[0])"
    )
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=Path.cwd())
    assert told.stdout.strip() == "1 RLIMIT_AS=3.0 GiB"
    assert 3 * GIB // WORKER_BYTES == 1


def test_this_machine_has_memory_and_a_worker_may_be_killed_before_its_parent():
    assert 0 < memory.tightest().left <= memory.tightest().size
    assert memory.oom_kills() >= 0
    code = "from u2s_datasets.executor import memory; memory.be_killed_first();"
    code += "print(open('/proc/self/oom_score_adj').read())"
    own = int(Path("/proc/self/oom_score_adj").read_text())
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env={**os.environ})
    assert int(told.stdout) == min(1000, own + 200)
