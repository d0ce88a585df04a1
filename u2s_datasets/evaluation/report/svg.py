"""What a page draws, as inline SVG of our own few lines, and the text that may stand in it."""

from __future__ import annotations

import base64
import html
import io
import math
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from PIL import Image

from u2s_datasets import columns as c
from u2s_datasets.parts.metrics.definitions import Score

_COUNTS = {*c.FACES, c.RESIDUAL_FACES, c.RESIDUAL_TEXT}
_OPEN = {c.CLIP_SIMILARITY, c.CLIP_RATIO, c.LPIPS, *_COUNTS}


def esc(text: Any) -> str:
    """Text for HTML, in content and in attributes. What does not print (control, bidirectional) is replaced."""
    return html.escape(printable(text))


def printable(text: Any) -> str:
    """Text that cannot move the cursor of a terminal, nor turn a line around."""
    return "".join(k if k.isprintable() else "\N{REPLACEMENT CHARACTER}" for k in " ".join(str(text).split()))


def bar(parts: Sequence[tuple[str, int]]) -> str:
    """One bar of (css class, count) parts, as wide as the page."""
    total, at, rects = sum(k for _, k in parts) or 1, 0.0, []
    for name, count in parts:
        width = 1000 * count / total
        if count:
            rects.append(f'<rect class="{name}" x="{at:.2f}" width="{width:.2f}" height="16"/>')
        at += width
    words = " + ".join(f"{k} {name}" for name, k in parts)
    frame = 'class="bar" viewBox="0 0 1000 16" preserveAspectRatio="none" role="img"'
    return f'<svg {frame} aria-label="{words}">{"".join(rects)}</svg>'


def histogram(score: Score) -> str:
    """The public histogram: bins with fewer than 5 rows are a faint line, whether empty or not."""
    counts, edges = score.public_counts(), score.edges
    top, width, rects = max(k or 0 for k in counts) or 1, 240 / len(counts), []
    for i, count in enumerate(counts):
        height = 2 if count is None else 4 + 60 * count / top
        words = f"{edges[i]:g} to {edges[i + 1]:g}: {'fewer than 5 rows' if count is None else f'{count} rows'}"
        rects.append(
            f'<rect class="{"few" if count is None else "bin"}" x="{i * width + 0.75:.2f}" y="{66 - height:.2f}" '
            f'width="{width - 1.5:.2f}" height="{height:.2f}"><title>{words}</title></rect>'
        )
    last = edges[-2] if score.name in _COUNTS else edges[-1]
    end = f"{last:g}{'+' * (score.name in _OPEN)}"
    axis = f'<text x="1" y="80">{edges[0]:g}</text><text x="239" y="80" text-anchor="end">{end}</text>'
    return (
        f'<svg class="histogram" viewBox="0 0 240 84" role="img" aria-label="{score.name}">{"".join(rects)}{axis}</svg>'
    )


def thumbnail(image: Image.Image, side: int) -> str:
    """A small JPEG of the pixels alone, as a data URI: no metadata, longer side at most `side`."""
    if image.mode not in ("L", "RGB", "RGBA"):
        image = image.convert("RGBA" if image.has_transparency_data else "RGB")
    scale = min(1.0, side / max(image.size))
    small = image.resize([max(1, round(scale * v)) for v in image.size], Image.Resampling.LANCZOS, reducing_gap=3.0)
    if small.mode == "RGBA":
        small = Image.alpha_composite(Image.new("RGBA", small.size, "white"), small)
    file = io.BytesIO()
    # A fresh image: `save` would write a comment out of `info`.
    Image.fromarray(np.asarray(small.convert("RGB"))).save(file, "JPEG", quality=78, optimize=True)
    return "data:image/jpeg;base64," + base64.b64encode(file.getvalue()).decode()


def photo(uri: str, size: tuple[int, int], items: Iterable[dict[str, Any]] = ()) -> str:
    """A picture with the boxes of its review items over it.

    Args:
        uri: of the thumbnail.
        size: (width, height) of the image in whose pixels the boxes are.
        items: entries of `privacy_review`.
    """
    width, height = size
    rects = "".join(_rect(item) for item in items if _sound(item.get("box")))
    return (
        f'<svg class="photo" viewBox="0 0 {width} {height}" role="img">'
        f'<image href="{uri}" width="{width}" height="{height}" preserveAspectRatio="none"/>{rects}</svg>'
    )


def _sound(box: Sequence[float | None] | None) -> bool:
    return box is not None and len(box) == 4 and all(v is not None and math.isfinite(v) for v in box)


def _rect(item: dict[str, Any]) -> str:
    x0, y0, x1, y1 = item["box"]
    words = esc(f"{item.get('category')}: {item.get('item')}")
    place = f'x="{x0:.1f}" y="{y0:.1f}" width="{max(0, x1 - x0):.1f}" height="{max(0, y1 - y0):.1f}"'
    return f'<rect class="box" {place}><title>{words}</title></rect>'
