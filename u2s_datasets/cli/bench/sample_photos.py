"""A few real photos that are in the scikit-image package and free to use, for the demo, the benches and the tests."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from PIL import Image

from u2s_datasets.sources.folder import FolderSource

PHOTOS = {
    "people/astronaut.jpg": ("astronaut.png", "public domain, NASA"),
    "people/camera.png": ("camera.png", "CC0, Lav Varshney"),
    "papers/page.jpg": ("page.png", "no known copyright restrictions"),
    "papers/page_scan.png": ("page.png", "no known copyright restrictions"),
    "things/coffee.jpg": ("coffee.png", "CC0, Rachel Michetti"),
    "things/rocket.jpg": ("rocket.jpg", "public domain, SpaceX"),
    "things/coins.png": ("coins.png", "no known copyright restrictions"),
    "things/cat.jpg": ("chelsea.png", "CC0, Stefan van der Walt"),
    "things/brick.png": ("brick.png", "CC0, CC0Textures"),
}
"""Name that the photo gets -> (file in `skimage.data`, licence)."""

_GPS = {1: "N", 2: (28.0, 31.0, 24.0), 3: "W", 4: (80.0, 39.0, 3.0)}  # as a phone would note it


def write_samples(folder: Path, copies: int = 1) -> list[Path]:
    """Write the photos below a folder, in class folders; JPEG files carry a place and a camera's name, as from a phone.

    Args:
        folder: made if it does not exist.
        copies: how often each photo is written, under different names.

    Returns:
        The files.
    """
    import skimage.data

    source = Path(skimage.data.__file__).parent
    files = []
    for name, (stored, _) in PHOTOS.items():
        with Image.open(source / stored) as image:
            photo = image.convert("RGB") if name.endswith(".jpg") else image.copy()
        for copy in range(copies):
            path = folder / (name if copy == 0 else name.replace(".", f"_{copy}."))
            path.parent.mkdir(parents=True, exist_ok=True)
            if path.suffix == ".jpg":
                exif = Image.Exif()
                exif[0x010F], exif[0x0110] = "Demo Camera", path.stem  # Make, Model
                exif.get_ifd(0x8825).update(_GPS)
                photo.save(path, quality=95, subsampling=0, exif=exif)
            else:
                photo.save(path)
            files.append(path)
    return files


@contextmanager
def open_photos(src: str | None, rows: int = 1) -> Iterator[FolderSource]:
    """A folder of readable photos as a source.

    Args:
        src: the folder; None for the sample photos, in a folder that is removed at the end.
        rows: how many photos are needed; the sample photos are copied until they are so many.
    """
    with tempfile.TemporaryDirectory() as name:
        if src is None:
            write_samples(Path(name), copies=-(-rows // len(PHOTOS)))
        yield FolderSource(Path(src or name), src or name)
