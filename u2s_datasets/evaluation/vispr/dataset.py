"""VISPR as it lies on the disk: a list of annotation files per split, one JSON per image.

    ROOT/test2017.txt                             annotations/test2017/2017_10000580.json, one path to a line
    ROOT/annotations/test2017/2017_….json         {"id": …, "image_path": "images/test2017/….jpg", "labels": […]}
    ROOT/images/test2017/2017_….jpg

All paths are relative to ROOT; of a path that leads out of it the name alone counts. Without the list the folder of
annotations is read; annotations and images are also found in `ROOT/test2017`, and images in `ROOT/images`, where the
archives may have been unpacked.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from u2s_datasets.errors import SetupError
from u2s_datasets.privacy import vispr_attributes as vispr

SPLITS = ("train", "val", "test")
_YEAR = "2017"


@dataclass(frozen=True)
class Example:
    """One image of a split.

    Args:
        name: its path in the annotation, relative to the dataset's root.
        path: where it is, or would be.
        labels: the ids of its attributes, or `a0_safe`.
        key: the name with the file's size and time of change; the name alone without a file.
    """

    name: str
    path: Path
    labels: frozenset[str]
    key: str

    @property
    def unsafe(self) -> bool:
        """Whether it is private, by the paper's rule: it is not labelled safe."""
        return vispr.SAFE not in self.labels

    def has(self, ids: Sequence[str]) -> bool:
        """Whether it has one of these attributes."""
        return not self.labels.isdisjoint(ids)


def read_split(root: str | Path, split: str, limit: int | None = None) -> list[Example]:
    """The images of a split, in its order.

    Args:
        root: the dataset's folder.
        split: "train", "val" or "test".
        limit: only so many, the first ones.

    Raises:
        SetupError: an unknown split, an annotation that is missing or cannot be read, or not a single image. An image
            that is missing among others is a row that fails, not a reason to stop.
    """
    folder = Path(root).expanduser()
    year = split if split.endswith(_YEAR) else split + _YEAR
    if year.removesuffix(_YEAR) not in SPLITS:
        raise SetupError(f"unknown split {split!r}; expected one of: {', '.join(SPLITS)}")
    if not folder.is_dir():
        raise SetupError(f"root={str(root)!r} is not a folder; give the one that holds {year}.txt and images/")
    names = _annotations(folder, year)[:limit]
    examples = [_example(folder, year, name) for name in names]
    if all(example.key == example.name for example in examples):
        raise SetupError(
            f"root={str(root)!r} has the annotations of {year} but none of its {len(examples)} images, such as "
            f"{examples[0].name!r}; unpack the images there, or give the folder to which that path is relative"
        )
    return examples


def _annotations(root: Path, year: str) -> list[str]:
    """The paths of a split's annotations, relative to the root as a rule."""
    listed = root / f"{year}.txt"
    if listed.is_file():
        lines = _read_text(listed, f"{year}.txt").splitlines()
        names = [line.strip() for line in lines if line.strip()]
    else:
        names = sorted(f"annotations/{year}/{p.name}" for p in (root / "annotations" / year).glob("*.json"))
    if not names:
        raise SetupError(
            f"root={str(root)!r} is not VISPR's: {year}.txt is {'empty' if listed.is_file() else 'missing'}, and "
            f"annotations/{year}/ holds no annotation; give the folder that holds {year}.txt and images/"
        )
    return names


def _example(root: Path, year: str, name: str) -> Example:
    text = _read_text(_find(root, name, (f"annotations/{year}", year)), name)
    try:
        annotation = json.loads(text)
        image, labels = annotation["image_path"], annotation["labels"]
        if not (isinstance(image, str) and isinstance(labels, list) and all(isinstance(v, str) for v in labels)):
            raise TypeError("image_path is not a string, or labels is not a list of strings")
    except (ValueError, KeyError, TypeError) as error:
        raise SetupError(f"the annotation {name!r} is not VISPR's ({error}); get it again") from error
    path = _find(root, image, (f"images/{year}", "images", year))
    key = image
    if path.is_file():
        key = f"{image} {path.stat().st_size} {path.stat().st_mtime_ns}"
    return Example(image, path, frozenset(labels), key)


def _find(root: Path, name: str, folders: Sequence[str]) -> Path:
    """The file of this path, or of this name in one of the folders; always below the root.

    The last of these if it is in none of them.
    """
    relative = PurePosixPath(name)
    candidates = [root / folder / relative.name for folder in folders]
    if not (relative.is_absolute() or ".." in relative.parts):
        candidates.insert(0, root / relative)
    return next((path for path in candidates if path.is_file()), candidates[-1])


def _read_text(path: Path, name: str) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        why = getattr(error, "strerror", None) or "not UTF-8"
        raise SetupError(f"{name!r} of the dataset cannot be read: {why}; unpack all of its annotations") from error
