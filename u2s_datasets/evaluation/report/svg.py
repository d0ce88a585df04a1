"""What a page draws, as inline SVG of our own few lines, and the text that may stand in it."""

import base64
import html
import io
import math
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from PIL import Image

from u2s_datasets.parts.metrics.definitions import Distribution


def esc(text: Any) -> str:
    """Text for HTML, in content and in attributes. Characters that do not print (control, bidirectional) are
    replaced."""
    return html.escape(printable(text))


def printable(text: Any) -> str:
    """Text that can neither move the cursor of a terminal nor turn a line around."""
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


def histogram(score: Distribution) -> str:
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
    last = edges[-2] if score.spec.is_count else edges[-1]
    end = f"{last:g}{'+' * score.spec.exceeds_high}"
    axis = f'<text x="1" y="80">{edges[0]:g}</text><text x="239" y="80" text-anchor="end">{end}</text>'
    frame = f'class="histogram" viewBox="0 0 240 84" role="img" aria-label="{score.name}"'
    return f"<svg {frame}>{''.join(rects)}{axis}</svg>"


def thumbnail(image: Image.Image, side: int) -> str:
    """A small JPEG of the pixels alone, as a data URI, without metadata, its longer side at most `side` pixels."""
    if image.mode not in ("L", "RGB", "RGBA"):
        image = image.convert("RGBA" if image.has_transparency_data else "RGB")
    scale = min(1.0, side / max(image.size))
    small = image.resize([max(1, round(scale * v)) for v in image.size], Image.Resampling.LANCZOS, reducing_gap=3.0)
    if small.mode == "RGBA":
        small = Image.alpha_composite(Image.new("RGBA", small.size, "white"), small)
    file = io.BytesIO()
    # A fresh image: `save` would write the comment that stands in `info`.
    Image.fromarray(np.asarray(small.convert("RGB"))).save(file, "JPEG", quality=78, optimize=True)
    return "data:image/jpeg;base64," + base64.b64encode(file.getvalue()).decode()


def photo(uri: str, size: tuple[int, int], items: Iterable[dict[str, Any]] = ()) -> str:
    """A picture with the boxes of its review items over it.

    Args:
        uri: of the thumbnail.
        size: (width, height) of the image in whose pixels the boxes are.
        items: entries of `privacy_review`; one without a usable box is not drawn.
    """
    width, height = size
    rects = []
    for item in items:
        box = item.get("box")
        if box is None or len(box) != 4 or not all(v is not None and math.isfinite(v) for v in box):
            continue  # reviews may come from elsewhere
        x0, y0, x1, y1 = box
        place = f'x="{x0:.1f}" y="{y0:.1f}" width="{max(0, x1 - x0):.1f}" height="{max(0, y1 - y0):.1f}"'
        words = esc(f"{item.get('category')}: {item.get('item')}")
        rects.append(f'<rect class="box" {place}><title>{words}</title></rect>')
    return (
        f'<svg class="photo" viewBox="0 0 {width} {height}" role="img">'
        f'<image href="{uri}" width="{width}" height="{height}" preserveAspectRatio="none"/>{"".join(rects)}</svg>'
    )
