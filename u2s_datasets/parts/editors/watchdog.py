"""A program that is left alone is ended, and its private folder deleted, even if this process is killed.

A killed process cleans nothing up. So another one, this file run by itself, waits beside it for the end of a pipe
that both hold: if it comes unannounced, that process ends the program with all that it started and deletes the
folder. It needs the standard library alone.
"""

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
_TRIES = 100  # a tenth of a second apart, to delete a folder in which a dying program still writes


@contextlib.contextmanager
def private_folder() -> Iterator[tuple[Path, Callable[[int], None]]]:
    """A temporary folder for its owner alone (0700), whose name tells nothing, and which goes on any way out.

    Yields:
        The folder, and a function that takes the number of a process group to be ended if this process dies.

    Raises:
        OSError: the other process cannot be started.
    """
    with tempfile.TemporaryDirectory() as private:
        # -I and -S: it starts within milliseconds, and nobody's modules are imported. Unbuffered, so that a line is
        # with the other process once it is written.
        watcher = subprocess.Popen(
            [sys.executable, "-I", "-S", __file__, private],
            bufsize=0,
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        pipe = watcher.stdin
        assert pipe is not None

        def tell(line: bytes) -> None:
            with contextlib.suppress(BrokenPipeError):  # if somebody ended it, nobody watches and the work goes on
                pipe.write(line)

        try:
            yield Path(private), lambda group: tell(f"{group}\n".encode())
        finally:
            tell(DONE)
            pipe.close()
            watcher.wait()


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
