"""The answers for each image, kept beside the result so that a killed evaluation resumes where it stopped."""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, Any

from u2s_datasets.errors import SetupError
from u2s_datasets.evaluation.vispr.dataset import Example


@dataclass(frozen=True)
class Answer:
    """The answer of `inspect` for one image.

    Args:
        flag: whether it is private.
        score: how sure that is, in [0, 1].
        failed: the reason code of an image that could not be read or judged, and is flagged therefore.
    """

    flag: bool
    score: float
    failed: str | None = None


Answers = dict[str, Answer]
"""By the question's name."""


class AnswerFile:
    """A file of answers, one line of JSON per image after a first line that says by what they were given.

    Private (mode 0600): it names every image with its score. An answer counts for a file of the same name, size and
    time of change. A line that a kill cut off is dropped, and its image is asked again. Use it in `with`.

    Args:
        path: the file; None keeps the answers in memory alone.
        binding: what shaped the answers, as JSON values.

    Raises:
        SetupError: the file is another evaluation's, is damaged, or is being written by another process.
    """

    def __init__(self, path: Path | None, binding: Mapping[str, Any]) -> None:
        self._path = path
        self._known: dict[str, Answers] = {}
        self._file: IO[bytes] | None = None
        self._head = json.dumps(binding, sort_keys=True) + "\n"

    def __enter__(self) -> AnswerFile:
        if self._path is not None:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self._file = _open_locked(self._path)
            try:
                self._read(self._file)
            except SetupError:
                self._file.close()
                raise
        return self

    def __exit__(self, *_: object) -> None:
        if self._file is not None:
            self._file.close()

    def get(self, example: Example) -> Answers | None:
        """What was answered of this image, if anything was."""
        return self._known.get(example.key)

    def add(self, examples: Sequence[Example], answers: Sequence[Answers]) -> None:
        """Keep what was answered of these images; it is on the disk when this returns."""
        lines = ""
        for example, given in zip(examples, answers, strict=True):
            self._known[example.key] = given
            lines += json.dumps({"image": example.key, "answers": {n: asdict(a) for n, a in given.items()}}) + "\n"
        self._append(lines)

    def _append(self, text: str) -> None:
        if self._file is not None:
            self._file.write(text.encode())
            self._file.flush()
            os.fsync(self._file.fileno())

    def _read(self, file: IO[bytes]) -> None:
        stored, head = file.read(), self._head.encode()
        if not head.startswith(stored) and not stored.startswith(head):
            raise SetupError(
                f"{str(self._path)!r} was made with another profile, criteria, threshold or version; repeat that call "
                "to resume it, give another --out, or delete that file"
            )
        # Whole lines stay. A file that is cut off in its first line, as one that is new, begins anew.
        whole = stored[: stored.rfind(b"\n") + 1]
        file.seek(len(whole))
        file.truncate()
        if not whole:
            self._append(self._head)
        try:
            for line in whole[len(head) :].splitlines():
                entry = json.loads(line)
                self._known[entry["image"]] = {name: Answer(**answer) for name, answer in entry["answers"].items()}
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise SetupError(f"{str(self._path)!r} is damaged: {error}; delete it to begin anew") from error


def _open_locked(path: Path) -> IO[bytes]:
    """The file, new or not, never through a link, for this process alone."""
    try:
        number = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
    except OSError as error:
        raise SetupError(f"{str(path)!r} cannot be written: {error.strerror}; give another --out") from error
    os.fchmod(number, 0o600)
    file = os.fdopen(number, "r+b")
    try:
        fcntl.flock(number, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        file.close()
        raise SetupError(f"another evaluation is writing {str(path)!r}; wait for it, or give another --out") from error
    return file
