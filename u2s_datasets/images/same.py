"""Whether two pictures are the same: by digest, and by blocks where one was compressed anew."""

from __future__ import annotations

import hashlib

import numpy as np
from PIL import Image

BLOCK = 8
"""Pixels per side of a block."""
UNTOUCHED = 16.0
"""Grey levels: an image in which every block's mean difference is below was compressed anew and not edited. In 99 real
photos JPEG 95 changed no block by more than 6, and each of 74 redactions changed one by more than 90."""


def digest(image: Image.Image) -> str:
    """SHA-256 of an RGB picture's size and pixels."""
    return hashlib.sha256(f"{image.width} {image.height} ".encode() + image.convert("RGB").tobytes()).hexdigest()


def untouched(before: Image.Image, after: Image.Image) -> bool:
    """Whether an image shows its original as it was: of the same size, with no block that differs beyond encoding."""
    return before.size == after.size and largest_block(before, after) < UNTOUCHED


def largest_block(before: Image.Image, after: Image.Image) -> float:
    """The largest mean absolute difference over blocks, in grey levels of 0 to 255."""
    difference = np.abs(np.asarray(before.convert("RGB"), np.int16) - np.asarray(after.convert("RGB"), np.int16))
    flat = difference.max(axis=2).astype(np.float32)
    flat = np.pad(flat, ((0, -flat.shape[0] % BLOCK), (0, -flat.shape[1] % BLOCK)), mode="edge")
    blocks = flat.reshape(flat.shape[0] // BLOCK, BLOCK, flat.shape[1] // BLOCK, BLOCK)
    return float(blocks.mean(axis=(1, 3)).max())
