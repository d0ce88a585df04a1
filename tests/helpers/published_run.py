"""What the tests of publishing share: 200 photos as a phone makes them, their run, and datasets that went through."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import skimage.data
from datasets import ClassLabel, Dataset, Features, Image, List, Value
from PIL import Image as Pil

import u2s_datasets as u2s
from tests.helpers.fakes import RedSquares
from tests.helpers.hostile_images import camera_jpeg

ABOUT = {"license": "cc0-1.0", "source_dataset": "original", "source_license": "cc0-1.0"}
"""What has to be said for every push."""

REPO = "org/photos-safe"

_SOURCES = (
    "astronaut.png",
    "coffee.png",
    "rocket.jpg",
    "chelsea.png",
    "camera.png",
    "coins.png",
    "brick.png",
    "page.png",
)


def write_phone_photos(folder: Path, number: int) -> list[Path]:
    """Write real photos, each another crop, with camera, place and thumbnail, under names and in folders that tell."""
    rng = np.random.default_rng(0)
    pictures = [Pil.open(Path(skimage.data.__file__).parent / name).convert("RGB") for name in _SOURCES]
    files = []
    for i in range(number):
        picture = pictures[i % len(pictures)]
        side, low, high = (
            (180, (120, 0), (170, 60)) if i % len(pictures) == 0 else (160, (0, 0), (picture.width - 160, 30))
        )
        x, y = (int(rng.integers(a, b)) for a, b in zip(low, high, strict=True))
        path = folder / ("indoors" if i % 3 else "outdoors") / f"Maria_Gonzalez_IMG{20240000 + i}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(camera_jpeg(picture.crop((x, y, x + side, y + side)).resize((160, 160))))
        files.append(path)
    return files


def scene(i: int, red: bool) -> Pil.Image:
    """A crop of a real photo, with a red square where it is to be private."""
    picture = (
        Pil.open(Path(skimage.data.__file__).parent / "coffee.png").convert("RGB").crop((9 * i, 40, 9 * i + 160, 160))
    )
    if red:
        picture.paste((255, 0, 0), (40, 30, 80, 70))
    return picture


FEATURES = Features(
    {
        "image": Image(),
        "label": ClassLabel(names=["cup", "spoon"]),
        "objects": {
            "bbox": List(List(Value("float32"), length=4)),
            "category": List(ClassLabel(names=["cup", "table"])),
        },
        "caption": Value("string"),
    }
)


def source_rows(number: int = 8) -> list[dict[str, Any]]:
    """Rows of a dataset with labels, boxes and captions; every second image is private."""
    rows = []
    for i in range(number):
        stored = {"bytes": camera_jpeg(scene(i, red=False)), "path": f"Maria_{i:02d}.jpg"}
        if i % 2:
            stored["bytes"] = _lossless(scene(i, red=True))
        objects = {"bbox": [[1.5, 2.0, 30.0, 40.0]], "category": [i % 2]}
        rows.append({"image": stored, "label": i % 2, "objects": objects, "caption": "a cup on a table"})
    return rows


def _lossless(image: Pil.Image) -> bytes:
    import io

    out = io.BytesIO()
    image.save(out, "png")
    return out.getvalue()


ANONYMIZE = u2s.Anonymize(inspect=u2s.Inspect(detectors=(RedSquares(),)), editor=u2s.Redact(method="solid"))


def anonymized(number: int = 8) -> Dataset:
    """A dataset that went through the steps, with its source columns."""
    data = Dataset.from_list(source_rows(number), features=FEATURES)
    return data.map(ANONYMIZE, batched=True, batch_size=4)


def changed(data: Dataset, row: int, **values: Any) -> Dataset:
    """The dataset with some values of one row replaced."""
    plain = data
    for name, feature in data.features.items():
        if isinstance(feature, Image):
            plain = plain.cast_column(name, Image(decode=False))
    rows = plain.to_list()
    rows[row] = {**rows[row], **values}
    return Dataset.from_list(rows, features=data.features)


def push(data, **options):
    return u2s.push_to_hub(data, options.pop("repo_id", REPO), **{**ABOUT, **options})


def published_rows(hub, repo_id=REPO, revision="main"):
    """Every row of every parquet file of a revision, in the order of the files."""
    files = {path: data for path, data in hub.files(repo_id, revision).items() if path.endswith(".parquet")}
    return [row for path in sorted(files) for row in pq.read_table(memory(files[path])).to_pylist()]


def memory(data):
    return pa.BufferReader(data)
