"""Whatever is configured now and loaded later: backends, detectors, editors and the networks of the metrics."""

from u2s_datasets.parts.base import (
    CUT,
    Backend,
    Box,
    Category,
    Detection,
    Detector,
    Edit,
    Editor,
    Grow,
    Message,
    Part,
    Request,
    Shipped,
    TextCheck,
)

__all__ = [
    "CUT",
    "Backend",
    "Box",
    "Category",
    "Detection",
    "Detector",
    "Edit",
    "Editor",
    "Grow",
    "Message",
    "Part",
    "Request",
    "Shipped",
    "TextCheck",
]
