"""Pixels in and out: what decodes, how it is encoded without metadata, content seeds, padding, boxes."""

from u2s_datasets.images.content import content_seed
from u2s_datasets.images.decoding import MAX_PIXELS, Decoded, decode, max_file_size
from u2s_datasets.images.encoding import ENCODED_FORMATS, choose_format, encode
from u2s_datasets.images.formats import IMAGE_SUFFIXES, looks_like_image
from u2s_datasets.images.geometry import (
    Box,
    clip_box,
    grow_box,
    grow_evenly,
    grow_head,
    grow_line,
    pad,
    unpad,
)
from u2s_datasets.images.levels import stretched
from u2s_datasets.images.metadata import beyond_rgb, metadata_in
from u2s_datasets.images.shapes import Outline, Shape, cover_box, cover_head, cover_line, head_outline

__all__ = [
    "ENCODED_FORMATS",
    "IMAGE_SUFFIXES",
    "MAX_PIXELS",
    "Box",
    "Decoded",
    "Outline",
    "Shape",
    "beyond_rgb",
    "choose_format",
    "clip_box",
    "content_seed",
    "cover_box",
    "cover_head",
    "cover_line",
    "decode",
    "encode",
    "grow_box",
    "grow_evenly",
    "grow_head",
    "grow_line",
    "head_outline",
    "looks_like_image",
    "max_file_size",
    "metadata_in",
    "pad",
    "stretched",
    "unpad",
]
