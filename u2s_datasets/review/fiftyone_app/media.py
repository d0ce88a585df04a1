"""The media folder: what the App shows, written there under neutral names and nowhere else."""

import hashlib
import io
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image, UnidentifiedImageError

from u2s_datasets import images
from u2s_datasets.errors import SetupError, UnreadableImage
from u2s_datasets.images.stored import stored_bytes

ORIGINAL, ANONYMIZED = "original", "anonymized"

_SUFFIXES = {"JPEG": "jpg", "PNG": "png", "WEBP": "webp"}
"""What every browser shows."""
_ORIENTATION = 0x0112
_PLACEHOLDER = "no_image.png"


@dataclass(frozen=True)
class Stored:
    """One image in the media folder.

    Args:
        path: the file that is shown.
        size: (width, height) in pixels; None for the placeholder of an image that cannot be shown.
        verbatim: the file with the very bytes that were given, where another one is shown.
    """

    path: str
    size: tuple[int, int] | None
    verbatim: str | None = None


class Media:
    """A folder for the App's images. It holds originals, so nobody else may enter it (mode 0700).

    Args:
        root: made if it is not there.

    Raises:
        SetupError: it is a file.
    """

    def __init__(self, root: str | Path) -> None:
        self.root = Path(root).expanduser().resolve()
        if self.root.exists() and not self.root.is_dir():
            raise SetupError(f"{str(root)!r} is a file; expected a folder for the images that the App shows")
        self.root.mkdir(parents=True, exist_ok=True)
        self.root.chmod(0o700)
        for name in (ORIGINAL, ANONYMIZED):
            (self.root / name).mkdir(exist_ok=True)

    def original(self, name: str, value: Any) -> Stored:
        """Write an original upright, as it is stored where a browser shows it so, else encoded anew.

        Args:
            name: of the row.
            value: bytes, a path, a {bytes, path}, or None.
        """
        data = stored_bytes(value)
        shown = None if data is None else _shown_as_is(data)
        if data is not None and shown is not None:
            suffix, size = shown
            return Stored(self._write(ORIGINAL, name, data, suffix), size)
        verbatim = None if data is None else self._write(ORIGINAL, name, data, "bin")
        try:
            decoded = images.decode(data)
        except UnreadableImage:
            return Stored(self._placeholder(), None, verbatim)
        format = images.choose_format(decoded)
        encoded = images.encode(decoded.pixels, format)
        return Stored(self._write(ORIGINAL, name, encoded, format), decoded.pixels.size, verbatim)

    def anonymized(self, name: str, data: bytes) -> Stored:
        """Write a publishable image. A new image has a new name, so that no browser shows the old one."""
        suffix, size = _shown_as_is(data) or ("bin", (0, 0))
        return Stored(self._write(ANONYMIZED, file_stem(name, data), data, suffix), size)

    def _write(self, folder: str, name: str, data: bytes, suffix: str) -> str:
        path = self.root / folder / f"{name}.{suffix}"
        path.write_bytes(data)
        return str(path)

    def _placeholder(self) -> str:
        path = self.root / _PLACEHOLDER
        if not path.exists():
            Image.new("RGB", (256, 256), (96, 96, 96)).save(path)
        return str(path)


def file_stem(name: str, data: bytes) -> str:
    """What a row's publishable image is called in the folder."""
    return f"{name}-{hashlib.sha256(data).hexdigest()[:8]}"


def is_placeholder(path: str | None) -> bool:
    """Whether a path shows that there is no image: it must never be taken for one."""
    return path is None or Path(path).name == _PLACEHOLDER


def _shown_as_is(data: bytes) -> tuple[str, tuple[int, int]] | None:
    """Suffix and size of what a browser shows upright as it is; only its header is read."""
    try:
        with Image.open(io.BytesIO(data)) as image:
            upright = image.getexif().get(_ORIENTATION, 1) == 1
            if upright and image.format in _SUFFIXES and not getattr(image, "is_animated", False):
                return _SUFFIXES[image.format], image.size
    except (UnidentifiedImageError, OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        return None
    return None
