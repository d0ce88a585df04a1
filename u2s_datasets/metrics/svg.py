"""The figures of a report: the numbers of one score, and what is drawn, as inline SVG of our own few lines."""

from __future__ import annotations

import base64
import html
import io
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image

from u2s_datasets import columns as c

SCALES = {
    c.CLIP_SIMILARITY: ("higher", 0.0, 0.5, 20),
    c.CLIP_RATIO: ("higher", 0.0, 1.5, 15),
    c.SSIM: ("lower", 0.0, 1.0, 20),
    c.LPIPS: ("higher", 0.0, 1.0, 20),
    c.FACE_SIMILARITY: ("lower", -0.2, 1.0, 24),
    c.TEXT_SIMILARITY: ("lower", 0.0, 1.0, 20),
    c.VLM_SCORE: ("higher", 0.0, 100.0, 20),
    c.RESIDUAL_FACES: ("lower", 0.0, 11.0, 11),
    c.RESIDUAL_TEXT: ("lower", 0.0, 11.0, 11),
}
"""Per score: which is better, for privacy, and the histogram's (low, high, bins). The edges are fixed, since
edges taken from the data would publish its extremes; the outer bins are open."""

MEANINGS = {
    c.CLIP_SIMILARITY: "how well the image fits its public caption",
    c.CLIP_RATIO: "the same, relative to the original",
    c.SSIM: "likeness of the pixels to the original's",
    c.LPIPS: "perceived distance from the original",
    c.FACE_SIMILARITY: "likeness of the faces to the original's",
    c.TEXT_SIMILARITY: "likeness of the words to the original's",
    c.VLM_SCORE: "a model's grade of the removal",
    c.RESIDUAL_FACES: "faces still found",
    c.RESIDUAL_TEXT: "words still found",
}

_OPEN = {c.CLIP_SIMILARITY, c.CLIP_RATIO, c.LPIPS, c.RESIDUAL_FACES, c.RESIDUAL_TEXT}

FEW = 5
"""Fewer rows than this are never shown apart in public."""


@dataclass(frozen=True)
class Score:
    """One score column over a set. Null, NaN and infinite values are missing and enter no figure.

    Args:
        name: the column.
        n, missing: rows with and without a value.
        mean, median, worst: none where n is 0. `worst` is one row's own value, so it is private.
        counts: rows per bin of `SCALES`. Private; `public_counts` is what may be shown.
    """

    name: str
    n: int
    missing: int
    mean: float | None
    median: float | None
    worst: float | None
    counts: tuple[int, ...]

    @property
    def better(self) -> str:
        """ "higher" or "lower"."""
        return SCALES[self.name][0]

    @property
    def edges(self) -> list[float]:
        """The edges of the bins, one more than `counts`."""
        _, low, high, bins = SCALES[self.name]
        return [round(float(v), 6) for v in np.linspace(low, high, bins + 1)]

    def figures(self, private: bool) -> dict[str, float | None]:
        """The numbers by name; in public rounded, without `worst`, and none at all of fewer than 5 rows."""
        if private:
            values = {"mean": self.mean, "median": self.median, "worst": self.worst}
        else:
            pairs = {"mean": self.mean, "median": self.median} if self.n >= FEW else {}
            values = {name: None if v is None else round(v, 2) for name, v in pairs.items()}
        return {"n": self.n, "missing": self.missing, **values}

    def public_counts(self) -> list[int | None]:
        """The counts, none where a bin has 0 to 4 rows.

        An empty bin is hidden like a small one, and never one small bin alone: n minus the others would tell it.
        """
        shown: list[int | None] = [k if k >= FEW else None for k in self.counts]
        if shown.count(None) == 1 and self.counts[shown.index(None)]:
            shown[min((k, i) for i, k in enumerate(shown) if k is not None)[1]] = None
        return shown

    @classmethod
    def of(cls, name: str, values: np.ndarray, rows: int) -> Score:
        """The score of these values, NaN where a row has none, shape (rows,)."""
        better, low, high, bins = SCALES[name]
        values = values[np.isfinite(values)]
        if not len(values):
            return cls(name, 0, rows, None, None, None, (0,) * bins)
        # 1e-9: an edge such as 0.15 has no exact float, and a score of 0.15 belongs above it.
        at = np.clip(np.floor((values - low) / (high - low) * bins + 1e-9), 0, bins - 1).astype(int)
        counts = tuple(int(k) for k in np.bincount(at, minlength=bins))
        worst = float(values.min() if better == "higher" else values.max())
        mean = math.fsum(values) / len(values)
        return cls(name, len(values), rows - len(values), mean, float(np.median(values)), worst, counts)


STYLE = """
:root{--text:#1c2430;--quiet:#5f6b7a;--line:#e2e6eb;--back:#fff;--card:#f6f7f9;--warn:#b45309;--warnback:#fff7e8;
--safe:#2f9e77;--anonymized:#4473c5;--withheld:#b9bfc8;--box:#e5484d}
@media (prefers-color-scheme:dark){:root{--text:#e6e9ee;--quiet:#9aa5b4;--line:#2c333d;--back:#14181e;--card:#1c222a;
--warn:#f0b357;--warnback:#2b2214;--safe:#3fb68b;--anonymized:#6f9be8;--withheld:#59626f;--box:#ff6b70}}
*{box-sizing:border-box}
body{margin:0;background:var(--back);color:var(--text);font:16px/1.55 system-ui,-apple-system,"Segoe UI",Roboto,
"Helvetica Neue",Arial,sans-serif;-webkit-text-size-adjust:100%}
main{max-width:60rem;margin:0 auto;padding:3rem 1.25rem 4rem;overflow-wrap:anywhere}
.kicker{margin:0 0 .5rem;color:var(--quiet);font-size:.8rem;letter-spacing:.08em;text-transform:uppercase}
h1{margin:0;font-size:clamp(1.4rem,1rem + 2vw,2rem);line-height:1.3;font-weight:600;text-wrap:pretty}
h2{margin:0 0 .75rem;font-size:1.1rem;font-weight:600}
section{margin-top:2.75rem}
.quiet,small,footer,.absent{color:var(--quiet);font-size:.875rem}
.quiet{margin:.5rem 0 0}h2+.quiet{margin:-.5rem 0 1rem}
.banner{margin:1.5rem 0 0;padding:.9rem 1.1rem;
border-left:4px solid var(--warn);background:var(--warnback);border-radius:4px}
.bar{display:block;width:100%;height:16px;border-radius:8px;background:var(--card)}
rect.safe{fill:var(--safe)}rect.anonymized{fill:var(--anonymized)}rect.withheld{fill:var(--withheld)}
i.safe,i.anonymized,i.withheld{display:inline-block;width:.65rem;height:.65rem;border-radius:50%;margin-right:.45rem}
i.safe{background:var(--safe)}i.anonymized{background:var(--anonymized)}i.withheld{background:var(--withheld)}
.legend{display:flex;flex-wrap:wrap;gap:.4rem 2rem;margin:.9rem 0 0;padding:0;list-style:none}
.legend b{font-size:1.25rem;font-weight:600;font-variant-numeric:tabular-nums}.legend small{margin-left:.4rem}
.scope{display:grid;gap:1rem;grid-template-columns:repeat(auto-fit,minmax(16rem,1fr))}
.scope div{padding:1.1rem 1.25rem;background:var(--card);border-radius:8px}
.scope .not{background:var(--warnback);border-left:4px solid var(--warn)}
.scope ul{margin:0;padding-left:1.1rem}.scope p{margin:.6rem 0 0;font-size:.9rem;color:var(--warn)}
.scroll{overflow-x:auto}table{border-collapse:collapse;width:100%;font-size:.925rem;font-variant-numeric:tabular-nums;
overflow-wrap:break-word}.scroll+.scroll{margin-top:1.75rem}
caption{text-align:left;font-weight:600;padding:.5rem 0}
th{text-align:left;font-weight:500;color:var(--quiet);font-size:.825rem;white-space:nowrap}
th,td{padding:.4rem 1rem .4rem 0;border-bottom:1px solid var(--line);vertical-align:top}
figure{margin:0}figcaption{padding-top:.4rem;font-size:.85rem;color:var(--quiet)}
figcaption span{display:block;line-height:1.4}figcaption b{color:var(--text);font-weight:600}
.gallery{columns:9rem 5;column-gap:1rem}.gallery figure{break-inside:avoid;padding-bottom:1.1rem}
.gallery figcaption span{display:-webkit-box;-webkit-line-clamp:3;-webkit-box-orient:vertical;overflow:hidden}
.photo{display:block;width:100%;height:auto;border-radius:6px;background:var(--card)}
.box{fill:none;stroke:var(--box);stroke-width:2px;vector-effect:non-scaling-stroke}
.absent{margin:0;padding:3rem 1rem;text-align:center;background:var(--card);border-radius:6px}
.histograms{display:grid;gap:1.75rem 1.5rem;grid-template-columns:repeat(auto-fill,minmax(15rem,1fr))}
.histogram{display:block;width:100%;height:auto}.bin{fill:var(--anonymized)}.few{fill:var(--line)}
.histogram text{font-size:10px;fill:var(--quiet)}
summary{cursor:pointer;color:var(--quiet)}details[open] summary{margin-bottom:.5rem}
footer{margin-top:3.5rem;padding-top:1rem;border-top:1px solid var(--line)}
article{margin-top:1.5rem;padding-top:1.5rem;border-top:1px solid var(--line)}
article h3{margin:0 0 .6rem;font-size:1rem;font-weight:600}article h3 small{font-weight:400;margin-left:.6rem}
.pair{display:grid;gap:1rem;grid-template-columns:repeat(auto-fill,minmax(min(100%,22rem),1fr));margin-bottom:.8rem}
dl{display:grid;grid-template-columns:minmax(6rem,max-content) 1fr;gap:.2rem 1rem;margin:0 0 .8rem;font-size:.9rem}
dt{color:var(--quiet)}dd{margin:0}
@media print{main{max-width:none;padding:0}}
"""


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
    last = edges[-2] if score.name in (c.RESIDUAL_FACES, c.RESIDUAL_TEXT) else edges[-1]
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
