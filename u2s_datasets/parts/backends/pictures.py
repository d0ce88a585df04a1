"""What all backends do to a picture before a model sees it."""

from __future__ import annotations

import math

from PIL import Image

from u2s_datasets.parts import Request


def has_images(request: Request) -> bool:
    """Whether a request shows a picture."""
    return any(isinstance(part, Image.Image) for message in request.messages for part in message.content)


def fitted(image: Image.Image, max_pixels: int) -> Image.Image:
    """The picture in RGB without metadata, scaled down to `max_pixels` pixels or fewer in its proportions, never up."""
    image = image.convert("RGB")
    image.info = {}
    pixels = image.width * image.height
    if pixels <= max_pixels:
        return image
    scale = math.sqrt(max_pixels / pixels)
    size = (max(1, math.floor(image.width * scale)), max(1, math.floor(image.height * scale)))
    return image.resize(size, Image.Resampling.LANCZOS)
