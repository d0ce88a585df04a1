"""A control group with little memory, as a container has it, where this process may make one."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

_TOP = Path("/sys/fs/cgroup")


@contextmanager
def container(size: int) -> Iterator[Path]:
    """The folder of a group that may take `size` bytes; the test is skipped where there can be none."""
    old = (_TOP / "memory/memory.limit_in_bytes").exists()
    folder = (_TOP / "memory" if old else _TOP) / f"u2s-test-{os.getpid()}"
    limit = folder / ("memory.limit_in_bytes" if old else "memory.max")
    try:
        folder.mkdir()
    except OSError as error:
        pytest.skip(f"no control group can be made here: {error}")
    try:
        limit.write_text(str(size))
    except OSError as error:
        folder.rmdir()
        pytest.skip(f"the memory of a control group cannot be limited here: {error}")
    try:
        yield folder
    finally:
        _remove(folder)


def run_inside(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """Python with these arguments, in the group from its start."""
    join = 'echo $$ > "$0/cgroup.procs" && exec "$@"'
    call = ["sh", "-c", join, str(folder), sys.executable, *words]
    return subprocess.run(call, capture_output=True, text=True, timeout=300, check=False)


def _remove(folder: Path) -> None:
    for _ in range(50):  # its last process may not be buried yet
        try:
            return folder.rmdir()
        except OSError:
            time.sleep(0.1)
    folder.rmdir()
