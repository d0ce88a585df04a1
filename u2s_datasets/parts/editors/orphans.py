"""A program that is left alone is ended, and its private folder deleted, even where this process is killed.

A killed process cleans nothing up. So another one, this file run by itself, waits beside it for the end of a pipe
that both hold: when it comes without a word before, it ends the program with all that it started and deletes the
folder. It needs the standard library alone.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

DONE = b"done\n"
_TRIES = 100
"""Times, a tenth of a second apart, that a folder is deleted in which a dying program still writes."""


@contextlib.contextmanager
def private_folder() -> Iterator[tuple[Path, Callable[[int], None]]]:
    """A temporary folder for its owner alone (0700), whose name tells nothing, and which goes on any way out.

    Yields:
        The folder, and a function that takes the number of a process group to be ended if this process dies.

    Raises:
        OSError: the other process cannot be started.
    """
    with tempfile.TemporaryDirectory() as private:
        # -I and -S: it starts in some milliseconds, and nobody's modules are imported.
        watcher = subprocess.Popen(
            [sys.executable, "-I", "-S", __file__, private],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        assert watcher.stdin is not None
        try:
            yield Path(private), lambda group: _tell(watcher, f"{group}\n".encode())
        finally:
            _tell(watcher, DONE)
            with contextlib.suppress(BrokenPipeError):
                watcher.stdin.close()
            watcher.wait()


def _tell(watcher: subprocess.Popen[bytes], line: bytes) -> None:
    assert watcher.stdin is not None
    with contextlib.suppress(BrokenPipeError):  # somebody ended it: then nobody watches, and the work goes on
        watcher.stdin.write(line)
        watcher.stdin.flush()


def watch(folder: str) -> None:
    """Wait for the end of standard input; unless `DONE` came before it, end the groups that came and the folder."""
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)  # they may go to everyone here, and this is when it is needed
    groups = []
    for line in sys.stdin.buffer:
        if line == DONE:
            return
        groups.append(int(line))
    for group in groups:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(group, signal.SIGKILL)
    for _ in range(_TRIES):
        shutil.rmtree(folder, ignore_errors=True)
        if not Path(folder).exists():
            return
        time.sleep(0.1)


if __name__ == "__main__":
    watch(sys.argv[1])
