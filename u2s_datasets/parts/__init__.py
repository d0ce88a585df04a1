"""Whatever is configured now and loaded later: backends, detectors, editors and the networks of the metrics."""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
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
        Region,
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
    "Region",
    "Request",
    "Shipped",
    "TextCheck",
]


def __getattr__(name: str) -> Any:
    """The command line's help needs none of them, nor NumPy and Pillow behind them."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module("u2s_datasets.parts.base"), name)
