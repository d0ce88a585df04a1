"""The main job on a few bundled photos: run it, measure what came out, then draw a before-and-after picture.

python examples/demo.py demo
"""

import shutil
import sys
from pathlib import Path

import pyarrow.parquet as pq
from PIL import Image

from u2s_datasets import images
from u2s_datasets.cli import main as command
from u2s_datasets.cli.bench.sample_photos import write_samples

SHOWN = ("people/astronaut.jpg", "things/rocket.jpg", "papers/page.jpg")
SIDE = 360


def main(folder: Path) -> None:
    """Anonymize the bundled photos into `folder`/safe and draw `folder`/before_after.jpg.

    A folder of an earlier demo is made anew; one that holds anything else is left alone.
    """
    photos, out = folder / "photos", folder / "safe"
    if folder.exists() and {path.name for path in folder.iterdir()} - {"photos", "safe", "before_after.jpg"}:
        sys.exit(f"{str(folder)!r} holds something else than an earlier demo; give a new folder")
    for old in (photos, out):
        shutil.rmtree(old, ignore_errors=True)
    write_samples(photos)
    code = command.main(["anonymize", str(photos), "--out", str(out), "--keep", "label"])
    code = code or command.main(["eval", str(out)])
    if code:
        sys.exit(code)
    before_after(photos, out).save(folder / "before_after.jpg", quality=88)
    print(f"before and after {folder}/before_after.jpg")


def before_after(photos: Path, out: Path) -> Image.Image:
    """Some pairs, original above and published below."""
    published = published_images(out)
    canvas = Image.new("RGB", (SIDE * len(SHOWN), SIDE * 2), "white")
    for i, name in enumerate(SHOWN):
        for j, picture in enumerate((images.decode(photos / name).pixels, published[name])):
            picture.thumbnail((SIDE - 12, SIDE - 12))
            x = i * SIDE + (SIDE - picture.width) // 2
            canvas.paste(picture, (x, j * SIDE + (SIDE - picture.height) // 2))
    return canvas


def published_images(out: Path) -> dict[str, Image.Image]:
    """Source name -> published image, joined by `row_id`, which only the private side can do."""
    data = pq.read_table(out / "data", columns=["row_id", "anonymized_image"]).to_pylist()
    by_id = {row["row_id"]: row["anonymized_image"]["bytes"] for row in data}
    rows = pq.read_table(out / "private" / "rows", columns=["row_id", "source"]).to_pylist()
    return {row["source"]: images.decode(by_id[row["row_id"]]).pixels for row in rows if row["row_id"] in by_id}


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "demo"))
