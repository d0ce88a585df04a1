"""Anonymizers that are installed apart from this package: a folder of images in, a folder of images out.

A program never sees more than pixels under neutral names, in a private folder that is deleted afterwards. What it
leaves is trusted as little: a row whose image did not come back under its own name, complete, of its own size and
changed, fails. `Anonymize` inspects the rest everywhere, and redacts what such a program left. The last three classes
know how to call a program each, in an environment of its own; nothing of those programs is in this package.
"""

import contextlib
import logging
import os
import re
import shutil
import signal
import stat
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, ClassVar

import numpy as np
from PIL import Image

from u2s_datasets import images
from u2s_datasets.errors import EditFailed, RowError, SetupError, UnreadableImage
from u2s_datasets.parts import Edit, Editor
from u2s_datasets.parts.editors import batches, watchdog

log = logging.getLogger(__name__)

_SEEDS = 2**32  # NumPy's global generator, which such programs seed, takes no more
_LOGGED = 4000  # bytes at the end of a program's output that a debug log keeps
# Names of environment variables that a program is not given, such as HF_TOKEN and AWS_ACCESS_KEY_ID.
_SECRET = re.compile(r"(TOKEN|KEY|SECRET|PASSWORD|PASSWD|PASSPHRASE|CREDENTIAL)S?(_|$)|(^|_)AUTH(_|$)", re.IGNORECASE)


@dataclass(frozen=True)
class ExternalEditor(Editor):
    """Runs a program over a folder of PNG files and takes what it left for each of them.

    A run that ends with another status than 0, or takes too long, counts for none of its images, whatever it
    left: they are tried again one by one, so that one image that crashes the program withholds itself alone.

    The program has this process's environment without variables named like a secret, and is not a sandbox: it can
    read what its user can. It is ended and its folder deleted even if this process is killed.

    Args:
        command: the program and its arguments as a tuple, not a line for a shell. Replaced in each of them: {input}
            and {output}, the two folders; {seed}, a number in [0, 2**32); {seeds}, a file of lines "NAME SEED";
            {folder}, the argument below; {here}, the folder of this module.
        stronger: arguments to add at the second attempt, at the third, and so on; the last ones stay.
        result: where the program leaves the image of {name}, under {output} or {input}: both are new at every run,
            so that nothing of an earlier one can pass for its result.
        redacts: whether it paints over what it finds, so that any face or word still found is residue. False
            if it puts something new there.
        alone: whether each image has a run of its own. None: if the command takes {seed}, since one seed for a
            folder lets a row's noise depend on its neighbours (law 5).
        timeout: seconds that a run may take per image, its start included.
        folder: the program's working folder, such as its checkout; None is the private folder.

    Raises:
        SetupError: an invalid command, or a program that is not installed.
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
    variable: ClassVar[str] = ""  # environment variable that names `folder` if the argument does not
    install: ClassVar[str] = "install it, or give its whole path in `command`"  # if the program is missing

    def check(self) -> None:
        """Raise `SetupError` if the command cannot work here."""
        if isinstance(self.command, str) or not self.command:
            raise SetupError(f"invalid command={self.command!r}; give a tuple, the program and its arguments")
        if not any("{input}" in argument for argument in self.command) or "{name}" not in self.result:
            raise SetupError(
                f"invalid command={self.command!r} with result={self.result!r}; `command` must hold {{input}}, and "
                "`result` {name}"
            )
        if not self.result.startswith(("{output}/", "{input}/")) or ".." in Path(self.result).parts:
            raise SetupError(
                f"invalid result={self.result!r}; begin with {{output}}/ or {{input}}/, which are new at every run"
            )
        if self.timeout <= 0:
            raise SetupError(f"invalid timeout={self.timeout!r}; expected seconds per image, more than 0")
        folder = self._working_folder()
        if folder is None and any("{folder}" in argument for argument in self.command):
            raise SetupError(f"{type(self).__name__} needs its folder: {self.install}")
        if folder is not None and not Path(folder).is_dir():
            raise SetupError(f"folder={folder!r} is not a folder: {self.install}")
        program, *arguments = (self._substitute(argument) for argument in self.command)
        for argument, template in zip(arguments, self.command[1:], strict=True):
            if template.startswith("{folder}/") and not Path(argument).exists():
                raise SetupError(f"{argument} does not exist: {self.install}")
        if shutil.which(program) is None:
            raise SetupError(f"the program {program!r} is not installed: {self.install}")

    def edit(self, edits: Sequence[Edit]) -> list[Image.Image]:
        """One RGB image per order, of its image's size. `Edit.boxes` and texts are not used.

        Raises:
            EditFailed: the only order failed: no image came back for it, or none that can be used.
            PartlyFailed: some of several failed; it holds every order's image or error.
            SetupError: as `check` says, or the program cannot be started.
        """
        self.check()
        alone = any("{seed}" in argument for argument in self.command) if self.alone is None else self.alone
        groups: dict[tuple[int, int], list[int]] = {}
        for i, order in enumerate(edits):
            groups.setdefault((order.strength, i if alone else 0), []).append(i)
        results: dict[int, Image.Image | RowError] = {}
        for group in groups.values():
            group.sort(key=lambda i: edits[i].seed)  # names do not depend on the order of rows in a batch
            results |= zip(group, self._run_or_split([edits[i] for i in group]), strict=True)
        return batches.images_or_raise([results[i] for i in range(len(edits))])

    def __getstate__(self) -> dict[str, Any]:
        found = shutil.which(self._substitute(self.command[0])) if self.command else None
        file = Path(found).stat() if found else None  # tells the program from a later version of it
        return super().__getstate__() | {"program": (file.st_size, file.st_mtime_ns) if file else None}

    def _run_or_split(self, orders: Sequence[Edit]) -> Sequence[Image.Image | RowError]:
        try:
            return self._run(orders)
        except EditFailed as error:
            if len(orders) == 1:
                return [error]
            log.warning("%s; its %d images are tried one by one", error, len(orders))
        return [self._run_or_split([order])[0] for order in orders]

    def _run(self, orders: Sequence[Edit]) -> list[Image.Image | RowError]:
        """What one run of the program makes of these orders, all of one strength."""
        with watchdog.private_folder() as (root, end_with_us):
            for folder in ("in", "out", "tmp"):
                (root / folder).mkdir()
            named = {f"{i:06d}": order for i, order in enumerate(orders)}
            for name, order in named.items():
                (root / "in" / f"{name}.png").write_bytes(images.encode(order.image.convert("RGB"), "png"))
            (root / "seeds").write_text("".join(f"{name} {order.seed % _SEEDS}\n" for name, order in named.items()))
            added = self.stronger[: max(orders[0].strength, 0)][-1:]
            arguments = (*self.command, *(added[0] if added else ()))
            command = [self._substitute(a, root, seed=str(orders[0].seed % _SEEDS)) for a in arguments]
            with (root / "log").open("w+b") as output:
                self._call(command, root, output, self.timeout * len(orders), end_with_us)
            results = [
                _read_result(Path(self._substitute(self.result, root, name=name)), order)
                for name, order in named.items()
            ]
            return _without_swapped(orders, results)

    def _call(
        self, command: Sequence[str], root: Path, output: IO[bytes], limit: float, end_with_us: Callable[[int], None]
    ) -> None:
        """Run the program to its end, or end it and all that it started."""
        environment = {name: value for name, value in os.environ.items() if not _SECRET.search(name)}
        try:
            process = subprocess.Popen(
                command,
                cwd=self._working_folder() or root,
                env=environment | {"TMPDIR": str(root / "tmp")},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        except OSError as error:
            raise SetupError(f"the program {command[0]!r} cannot be started ({error}): {self.install}") from error
        try:
            end_with_us(process.pid)
            status = process.wait(limit)
        except subprocess.TimeoutExpired:
            raise EditFailed(f"the external program took more than {limit:g} s") from None
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            output.seek(max(output.seek(0, os.SEEK_END) - _LOGGED, 0))
            # It may name files and what they show: for whoever asked for a debug log, and nobody else.
            log.debug("the external program said: %s", output.read().decode(errors="replace"))
        if status != 0:
            raise EditFailed(f"the external program ended with status {status}")

    def _working_folder(self) -> str | None:
        return self.folder or (os.environ.get(self.variable) if self.variable else None)

    def _substitute(self, text: str, root: Path | None = None, **more: str) -> str:
        values = {"folder": self._working_folder() or "", "here": str(Path(__file__).parent)} | more
        if root is not None:
            values |= {"input": f"{root}/in", "output": f"{root}/out", "seeds": f"{root}/seeds"}
        for name, value in values.items():
            text = text.replace(f"{{{name}}}", value)
        return text


def _read_result(path: Path, order: Edit) -> Image.Image | RowError:
    """The image that a program left for this order, or the error that fails it."""
    try:
        # No link is followed, since it may lead to an original, and no pipe is waited for.
        handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError as error:
        return EditFailed(f"no image came back: {error.strerror}")
    if not stat.S_ISREG(os.fstat(handle).st_mode):
        os.close(handle)
        return EditFailed("no image came back: it is not a regular file")
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


def _without_swapped(orders: Sequence[Edit], results: Sequence[Image.Image | RowError]) -> list[Image.Image | RowError]:
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
    return np.asarray(image.convert("RGB").resize((16, 16), Image.Resampling.BOX), np.float32)


@dataclass(frozen=True)
class Deface(ExternalEditor):
    """deface (MIT): finds faces with CenterFace and paints them over, here with black boxes.

    A further attempt lowers its threshold and grows its boxes. Source: github.com/ORB-HD/deface, version 1.5.
    """

    command: tuple[str, ...] = ("deface", "{input}", "--boxes", "--replacewith", "solid")
    stronger: tuple[tuple[str, ...], ...] = (
        ("--thresh", "0.1", "--mask-scale", "1.5"),
        ("--thresh", "0.05", "--mask-scale", "1.7"),
    )
    result: str = "{input}/{name}_anonymized.png"
    redacts: bool = True

    install: ClassVar[str] = (
        "run: python -m venv deface-env && deface-env/bin/pip install deface onnx onnxruntime, "
        "and put deface-env/bin on the PATH (an environment of its own, since it replaces OpenCV)"
    )


@dataclass(frozen=True)
class DeepPrivacy2(ExternalEditor):
    """DeepPrivacy2 (Apache-2.0): finds faces and synthesises others with a GAN.

    It takes one seed per run, so every image has a run of its own; `alone=False` is faster and lets a row depend on
    its neighbours. For whole bodies give a `command` with configs/anonymizers/FB_cse.py. A further attempt has
    another seed and a lower threshold. Source: github.com/hukkelas/deep_privacy2, anonymize.py.
    """

    command: tuple[str, ...] = (
        "{folder}/.venv/bin/python",
        "{folder}/anonymize.py",
        "configs/anonymizers/face.py",
        *("-i", "{input}", "-o", "{output}", "--seed", "{seed}"),
    )
    stronger: tuple[tuple[str, ...], ...] = (
        ("--detection-score-threshold", "0.2"),
        ("--detection-score-threshold", "0.1"),
    )
    timeout: float = 300.0

    variable: ClassVar[str] = "U2S_DEEPPRIVACY2"
    install: ClassVar[str] = (
        "run: git clone https://github.com/hukkelas/deep_privacy2, install it into its own environment in the folder "
        ".venv of the checkout, and set U2S_DEEPPRIVACY2 to the checkout"
    )


@dataclass(frozen=True)
class FaceAnonSimple(ExternalEditor):
    """Face Anonymization Made Simple (AGPL-3.0): finds faces and rewrites each by diffusion.

    It has no command of its own: `face_anon_simple.py` beside this file is run by the Python of its environment, with
    the authors' values for unaligned faces: 25 steps, guidance 4, degree 1.25. A further attempt raises the degree.
    Source: github.com/hanweikung/face_anon_simple, README.
    """

    command: tuple[str, ...] = (
        "{folder}/.venv/bin/python",
        "{here}/face_anon_simple.py",
        *("{input}", "{output}", "{seeds}"),
    )
    stronger: tuple[tuple[str, ...], ...] = (("--degree", "1.5"), ("--degree", "1.75"))
    timeout: float = 600.0

    variable: ClassVar[str] = "U2S_FACEANONSIMPLE"
    install: ClassVar[str] = (
        "run: git clone https://github.com/hanweikung/face_anon_simple, make its environment in the folder .venv of "
        "the checkout (conda env create -f environment.yml -p .venv), and set U2S_FACEANONSIMPLE to the checkout"
    )
