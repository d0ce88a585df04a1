"""Anonymizers that are installed apart from this package: a folder of images in, a folder of images out.

A program never sees more than pixels under neutral names, in a private folder that is deleted afterwards. What it
leaves is trusted as little: a row whose image did not come back under its own name, whole, of its own size and
changed, fails. `Anonymize` looks at the rest everywhere, and redacts what such a program left.
"""

from __future__ import annotations

import contextlib
import logging
import os
import re
import shutil
import signal
import stat
import subprocess
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, ClassVar

import numpy as np
from PIL import Image

from u2s_datasets import images
from u2s_datasets.errors import EditFailed, RowError, SetupError, UnreadableImage
from u2s_datasets.parts import Edit, Editor
from u2s_datasets.parts.editors import batches, orphans

log = logging.getLogger(__name__)

_SEEDS = 2**32  # NumPy's global generator, which such programs seed, takes no more
_THUMBNAIL = (16, 16)
_SAID = 4000  # bytes of a program's last words that a debug log keeps
_SECRET = re.compile(r"(TOKEN|KEY|SECRET|PASSWORD|PASSWD|PASSPHRASE|CREDENTIAL)S?(_|$)|(^|_)AUTH(_|$)", re.IGNORECASE)
"""Names of environment variables that a program is not given, such as HF_TOKEN and AWS_ACCESS_KEY_ID."""


@dataclass(frozen=True)
class ExternalEditor(Editor):
    """Runs a program over a folder of PNG files and takes what it left for each of them.

    A run that ends with another status than 0, or takes too long, counts for none of its images, whatever it
    left: they are tried again one by one, so that one image that crashes the program withholds itself alone.

    The program has this process's environment without what is named like a secret, and is no sandbox: it can read
    what its user can. It is ended and its folder deleted also where this process is killed.

    Args:
        command: the program and its arguments, no line for a shell. Replaced in each of them: {input} and {output},
            the two folders; {seed}, a number in [0, 2**32); {seeds}, a file of lines "NAME SEED"; {folder}, the
            argument below; {here}, the folder of this module.
        stronger: arguments to add at the second attempt, at the third, and so on; the last ones stay.
        result: where the program leaves the image of {name}, under {output} or {input}: both are new at every run,
            so that nothing of an earlier one can pass for its result.
        redacts: whether it paints over what it finds, so that any face or word still found is residue. False
            where it puts something new there.
        alone: whether each image has a run of its own. None: where the command takes {seed}, since one seed for
            a folder lets a row's noise depend on its neighbours (law 5).
        timeout: seconds that a run may take per image, its start included.
        folder: the program's working folder, such as its checkout; None is the private folder.

    Raises:
        SetupError: the command cannot work, or the program is not here.
    """

    command: tuple[str, ...] = ()
    stronger: tuple[tuple[str, ...], ...] = ()
    result: str = "{output}/{name}.png"
    redacts: bool = False
    alone: bool | None = None
    timeout: float = 60.0
    folder: str | None = None

    obeys_boxes: ClassVar[bool] = False
    libraries: ClassVar[tuple[str, ...]] = ("numpy", "pillow")
    variable: ClassVar[str] = ""
    """Environment variable that names `folder` where the argument does not."""
    install: ClassVar[str] = "install it, or give its whole path in `command`"
    """What to do where the program is missing."""

    def check(self) -> None:
        """Raises `SetupError` where the command cannot work here."""
        if isinstance(self.command, str) or not self.command:
            raise SetupError(f"command={self.command!r}: give a tuple, the program and its arguments")
        if not any("{input}" in argument for argument in self.command) or "{name}" not in self.result:
            raise SetupError("`command` must hold {input}, and `result` {name}; see ExternalEditor")
        if not self.result.startswith(("{output}/", "{input}/")) or ".." in Path(self.result).parts:
            raise SetupError(
                f"result={self.result!r}: begin with {{output}}/ or {{input}}/, which are new at every run"
            )
        if self.timeout <= 0:
            raise SetupError(f"timeout={self.timeout!r}: give seconds per image, more than 0")
        folder = self._folder()
        if folder is None and any("{folder}" in argument for argument in self.command):
            raise SetupError(f"{type(self).__name__} needs its folder: {self.install}")
        if folder is not None and not Path(folder).is_dir():
            raise SetupError(f"folder={folder!r} is no folder: {self.install}")
        for argument in self.command[1:]:
            if argument.startswith("{folder}/") and not Path(self._filled(argument)).exists():
                raise SetupError(f"{self._filled(argument)} is not here: {self.install}")
        if shutil.which(self._filled(self.command[0])) is None:
            raise SetupError(f"the program {self._filled(self.command[0])!r} is not here: {self.install}")

    def edit(self, edits: Sequence[Edit]) -> list[Image.Image]:
        """One RGB image per order, of its image's size. `Edit.boxes` and texts are not used.

        Raises:
            EditFailed: the only order failed: no image came back for it, or none that can be used.
            PartlyFailed: some of several failed; it holds every order's image or error.
            SetupError: as `check` says, or the program cannot be started.
        """
        self.check()
        alone = any("{seed}" in a for a in self.command) if self.alone is None else self.alone
        groups: dict[tuple[int, int], list[int]] = {}
        for i, order in enumerate(edits):
            groups.setdefault((order.strength, i if alone else 0), []).append(i)
        results: dict[int, Image.Image | RowError] = {}
        for numbers in groups.values():
            numbers.sort(key=lambda i: edits[i].seed)  # the order of rows in a batch changes no name
            results |= zip(numbers, self._together([edits[i] for i in numbers]), strict=True)
        return batches.sound([results[i] for i in range(len(edits))])

    def __getstate__(self) -> dict[str, Any]:
        return super().__getstate__() | {"program": self._fingerprint()}

    def _together(self, orders: Sequence[Edit]) -> Sequence[Image.Image | RowError]:
        try:
            return self._run(orders)
        except EditFailed as error:
            if len(orders) == 1:
                return [error]
            log.warning("%s; its %d images are tried one by one", error, len(orders))
        return [self._together([order])[0] for order in orders]

    def _run(self, orders: Sequence[Edit]) -> list[Image.Image | RowError]:
        with orphans.private_folder() as (root, watched):
            names = [f"{i:06d}" for i in range(len(orders))]
            for folder in ("in", "out", "tmp"):
                (root / folder).mkdir()
            for name, order in zip(names, orders, strict=True):
                (root / "in" / f"{name}.png").write_bytes(images.encode(order.image.convert("RGB"), "png"))
            seeds = [order.seed % _SEEDS for order in orders]
            lines = [f"{name} {seed}\n" for name, seed in zip(names, seeds, strict=True)]
            (root / "seeds").write_text("".join(lines))
            more = self.stronger[: max(orders[0].strength, 0)][-1:]
            command = [self._filled(a, root, seed=str(seeds[0])) for a in (*self.command, *(more[0] if more else ()))]
            with (root / "said").open("w+b") as said:
                self._call(command, root, said, self.timeout * len(orders), watched)
            paths = [Path(self._filled(self.result, root, name=name)) for name in names]
            return _unmixed(orders, [_returned(p, order) for p, order in zip(paths, orders, strict=True)])

    def _call(
        self, command: Sequence[str], root: Path, said: IO[bytes], limit: float, watched: Callable[[int], None]
    ) -> None:
        """Run the program to its end, or end it and all that it started."""
        try:
            process = subprocess.Popen(
                command,
                cwd=self._folder() or root,
                env=_without_secrets(os.environ) | {"TMPDIR": str(root / "tmp")},
                stdin=subprocess.DEVNULL,
                stdout=said,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        except OSError as error:
            raise SetupError(f"the program {command[0]!r} cannot be started ({error}): {self.install}") from error
        try:
            watched(process.pid)
            status = process.wait(limit)
        except subprocess.TimeoutExpired:
            raise EditFailed(f"the external program took more than {limit:g} s") from None
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            said.seek(max(said.seek(0, os.SEEK_END) - _SAID, 0))
            # It may name files and what they show: for whoever asked for a debug log, and nobody else.
            log.debug("the external program said: %s", said.read().decode(errors="replace"))
        if status != 0:
            raise EditFailed(f"the external program ended with status {status}")

    def _folder(self) -> str | None:
        return self.folder or (os.environ.get(self.variable) if self.variable else None)

    def _filled(self, text: str, root: Path | None = None, **more: str) -> str:
        known = {"folder": self._folder() or "", "here": str(Path(__file__).parent)} | more
        if root is not None:
            known |= {"input": f"{root}/in", "output": f"{root}/out", "seeds": f"{root}/seeds"}
        for name, value in known.items():
            text = text.replace(f"{{{name}}}", value)
        return text

    def _fingerprint(self) -> tuple[int, int] | None:
        """What tells this program from a later version of it; none where it is not here."""
        found = shutil.which(self._filled(self.command[0])) if self.command else None
        return (Path(found).stat().st_size, Path(found).stat().st_mtime_ns) if found else None


def _without_secrets(environment: Mapping[str, str]) -> dict[str, str]:
    return {name: value for name, value in environment.items() if not _SECRET.search(name)}


def _returned(path: Path, order: Edit) -> Image.Image | RowError:
    """The image that a program left for this order, or the error that it is."""
    try:
        # No link is followed, since it may lead to an original, and no pipe is waited for.
        handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError as error:
        return EditFailed(f"no image came back: {error.strerror}")
    if not stat.S_ISREG(os.fstat(handle).st_mode):
        os.close(handle)
        return EditFailed("no image came back: it is no regular file")
    with os.fdopen(handle, "rb") as file:
        data = file.read()
    try:
        image = images.decode(data).pixels
    except UnreadableImage as error:
        return EditFailed(f"the image that came back cannot be read: {error}")
    if image.size != order.image.size:
        return EditFailed(f"an image of {image.size} came back for one of {order.image.size}")
    pixels = np.asarray(image)
    if np.array_equal(pixels, np.asarray(order.image.convert("RGB"))):
        return EditFailed("the image came back as it went in")
    return image if pixels.any() else EditFailed("the image that came back is black")


def _unmixed(orders: Sequence[Edit], results: Sequence[Image.Image | RowError]) -> list[Image.Image | RowError]:
    """The results, without those that look far more like another row's image than like their own."""
    before = [_thumbnail(order.image) for order in orders]
    kept: list[Image.Image | RowError] = []
    for i, result in enumerate(results):
        if isinstance(result, Image.Image):
            distances = [float(np.abs(_thumbnail(result) - other).mean()) for other in before]
            if min(distances) < distances[i] / 2:
                result = EditFailed("the image that came back looks like another row's")
        kept.append(result)
    return kept


def _thumbnail(image: Image.Image) -> np.ndarray:
    return np.asarray(image.convert("RGB").resize(_THUMBNAIL, Image.Resampling.BOX), np.float32)
