"""How much memory these processes may still take: of the machine, of their control groups, of their own address space.

A container's limit is a control group's: the machine's free memory says nothing of it, and what takes more is killed.
Groups lie in each other, and the kernel enforces the limit of every one above a process. Every function takes the
root of the file system, so that any machine can be written down as a few files.

Sources: https://docs.kernel.org/admin-guide/cgroup-v2.html, https://docs.kernel.org/admin-guide/cgroup-v1/memory.html
and proc_pid_mountinfo(5).
"""

import contextlib
import os
import resource
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

_UNLIMITED = 2**60
"""Version 1 writes "no limit" as the largest number of whole pages in 63 bits; no machine has a 2**60th byte."""

ROOT = Path("/")


@dataclass(frozen=True)
class Limit:
    """Something that bounds what may be allocated.

    Args:
        name: where to look it up: a file, or a name of setrlimit(2).
        size: all that it allows, in bytes.
        left: what of it is not taken yet, in bytes; never negative.
    """

    name: str
    size: int
    left: int

    def __str__(self) -> str:
        return f"{self.name}={self.size / 2**30:.1f} GiB"


@dataclass(frozen=True)
class Group:
    """One control group that accounts for memory.

    Args:
        folder: its files.
        version: 1 or 2.
    """

    folder: Path
    version: int

    def limit(self) -> Limit | None:
        """What it allows; None if that is unlimited, or not known.

        In version 1 "hierarchical_memory_limit" is the least of all groups above as well, those included that a
        container does not see. Pages of files that were not used lately count as free: the kernel drops them first.
        """
        stat = _numbers(self.folder / "memory.stat")
        if self.version == 2:
            sizes = {name: _number(self.folder / name) for name in ("memory.max", "memory.high")}
            used, inactive = "memory.current", stat.get("inactive_file", 0)
        else:
            sizes = {name: _number(self.folder / name) for name in ("memory.limit_in_bytes",)}
            sizes["memory.stat"] = stat.get("hierarchical_memory_limit")
            used, inactive = "memory.usage_in_bytes", stat.get("total_inactive_file", 0)
        known = [(size, name) for name, size in sizes.items() if size is not None and size < _UNLIMITED]
        if not known:
            return None
        size, name = min(known)
        taken = max(0, (_number(self.folder / used) or 0) - inactive)
        return Limit(str(self.folder / name), size, max(0, size - taken))

    def oom_kills(self) -> int:
        """How many of its processes the kernel has killed for want of memory."""
        name = "memory.events" if self.version == 2 else "memory.oom_control"
        return _numbers(self.folder / name).get("oom_kill", 0)


def groups(root: Path = ROOT) -> list[Group]:
    """The memory groups of this process: its own and all above it that can be seen, the innermost first."""
    found: list[Group] = []
    for version, inside in _own_groups(root):
        for mounted, mount_point in _mounts(root, version):
            folder = top = root / mount_point.lstrip("/")
            # A container may see its own group as the root, or be told a path that only the machine outside can see.
            if inside.is_relative_to(mounted) and ".." not in inside.parts:
                folder = top / inside.relative_to(mounted)
            folders = [folder, *folder.parents] if folder.is_dir() else [top]
            found += [Group(f, version) for f in folders if f.is_relative_to(top)]
    return list(dict.fromkeys(found))


def limits(root: Path = ROOT) -> list[Limit]:
    """Every limit that holds for this process, the machine's memory first; without swap."""
    found = []
    machine = _numbers(root / "proc/meminfo")  # in KiB
    if "MemAvailable" in machine:
        sizes = (machine.get("MemTotal", machine["MemAvailable"]) * 1024, machine["MemAvailable"] * 1024)
        found.append(Limit(str(root / "proc/meminfo"), *sizes))
    else:  # the system does not tell
        everything = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
        found.append(Limit("the machine's memory", everything, everything))
    found += [limit for group in groups(root) if (limit := group.limit()) is not None]
    return [*found, *address_space()]


def address_space() -> list[Limit]:
    """The limit of `ulimit -v`, if there is one. Each process has it to itself, and takes some of it at its start."""
    soft, _ = resource.getrlimit(resource.RLIMIT_AS)
    return [] if soft == resource.RLIM_INFINITY else [Limit("RLIMIT_AS", soft, soft)]


def tightest(root: Path = ROOT) -> Limit:
    """The limit of which the least is left."""
    return min(limits(root), key=lambda limit: limit.left)


def oom_kills(root: Path = ROOT) -> int:
    """A number that grows whenever the kernel kills for want of memory: in these groups or on the whole machine."""
    return sum(group.oom_kills() for group in groups(root)) + _numbers(root / "proc/vmstat").get("oom_kill", 0)


def be_killed_first() -> None:
    """If memory runs out, let the kernel kill this process and not its parent, which could not go on without it."""
    path = Path("/proc/self/oom_score_adj")
    with contextlib.suppress(OSError, ValueError):
        path.write_text(str(min(1000, int(path.read_text()) + 200)))


def _own_groups(root: Path) -> Iterator[tuple[int, PurePosixPath]]:
    """(version, path in its hierarchy) of the groups of this process that may account for memory."""
    for line in _lines(root / "proc/self/cgroup"):
        number, controllers, path = [*line.split(":", 2), "", ""][:3]
        if number == "0" and not controllers:
            yield 2, PurePosixPath(path)
        elif "memory" in controllers.split(","):
            yield 1, PurePosixPath(path)


def _mounts(root: Path, version: int) -> Iterator[tuple[PurePosixPath, str]]:
    """(the group that is mounted, where) of every mounted hierarchy of this version that may account for memory."""
    for line in _lines(root / "proc/self/mountinfo"):
        before, _, after = line.partition(" - ")
        fields, kind = before.split(" "), after.split(" ")
        if len(fields) < 5 or len(kind) < 3:
            continue
        if kind[0] == "cgroup2" if version == 2 else kind[0] == "cgroup" and "memory" in kind[2].split(","):
            mounted, mount_point = (field.replace("\\040", " ") for field in fields[3:5])
            yield PurePosixPath(mounted), mount_point


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text(errors="replace").splitlines()
    except OSError:
        return []


def _number(path: Path) -> int | None:
    """The number in a file; None for "max", another word or no such file."""
    words = " ".join(_lines(path)).split()
    return int(words[0]) if words and words[0].isdecimal() else None


def _numbers(path: Path) -> dict[str, int]:
    """Name -> number, of a file with one such pair a line."""
    pairs = (line.replace(":", " ").split()[:2] for line in _lines(path))
    return {pair[0]: int(pair[1]) for pair in pairs if len(pair) == 2 and pair[1].isdecimal()}
