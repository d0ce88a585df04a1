"""A few real photos that are in the scikit-image package and free to use, for the demo, the bench and the tests."""

from __future__ import annotations

from pathlib import Path

from PIL import Image

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

_PLACE = {1: "N", 2: (28.0, 31.0, 24.0), 3: "W", 4: (80.0, 39.0, 3.0)}  # as a phone would note it


def write_samples(folder: Path, copies: int = 1) -> list[Path]:
    """Write the photos below a folder, in class folders; JPEG files carry a place and a camera's name, as from a phone.

    Args:
        folder: made where it is not there.
        copies: each photo so many times, under other names.

    Returns:
        The files.
    """
    import skimage.data

    source = Path(skimage.data.__file__).parent
    files = []
    for name, (stored, _) in PHOTOS.items():
        with Image.open(source / stored) as image:
            picture = image.convert("RGB") if name.endswith(".jpg") else image.copy()
        for copy in range(copies):
            path = folder / (name if copy == 0 else name.replace(".", f"_{copy}."))
            path.parent.mkdir(parents=True, exist_ok=True)
            _save(picture, path)
            files.append(path)
    return files


def _save(picture: Image.Image, path: Path) -> None:
    if path.suffix == ".jpg":
        exif = Image.Exif()
        exif[0x010F], exif[0x0110] = "Demo Camera", path.stem  # Make, Model
        exif.get_ifd(0x8825).update(_PLACE)
        picture.save(path, quality=95, subsampling=0, exif=exif)
    else:
        picture.save(path)
