"""What an image is by its pixels alone, however it was stored: a digest, and the seed that is drawn from it."""

import hashlib

from PIL import Image


def digest(image: Image.Image, prefix: str = "") -> str:
    """SHA-256 of a text and an RGB image's size and pixels, in hex: the same however the image was stored."""
    head = f"{prefix}{image.width} {image.height} ".encode()
    return hashlib.sha256(head + image.convert("RGB").tobytes()).hexdigest()


def content_seed(image: Image.Image, run_seed: int) -> int:
    """The row's seed in [0, 2**63): from the digest of the run's seed and the image's size and pixels (law 5).

    Private: whoever has the original can recognize it by its seed.

    Args:
        image: upright RGB image.
        run_seed: any integer.
    """
    return int(digest(image, f"{run_seed} ")[:16], 16) >> 1
