"""What the pages share: the style, the frame, counts and scope at the top, pictures, and what an evaluation adds."""

import io
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

from PIL import Image

from u2s_datasets import columns as c
from u2s_datasets.evaluation.report.inspection import inspection_plot
from u2s_datasets.evaluation.report.summary import Summary
from u2s_datasets.evaluation.report.svg import bar, esc, photo, thumbnail
from u2s_datasets.evaluation.report.tables import evaluation_tables, html_table, inspection_tables, join_tables
from u2s_datasets.runs.files import PRIVATE_MODE, PUBLIC_MODE, write_whole

T = TypeVar("T")
U = TypeVar("U")

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
.gallery figcaption span{display:-webkit-box;-webkit-line-clamp:2;-webkit-box-orient:vertical;overflow:hidden}
.photo{display:block;width:100%;height:auto;border-radius:6px;background:var(--card)}
.box{fill:none;stroke:var(--box);stroke-width:2px;vector-effect:non-scaling-stroke}
.absent{margin:0;padding:3rem 1rem;text-align:center;background:var(--card);border-radius:6px}
.histograms{display:grid;gap:1.75rem 1.5rem;grid-template-columns:repeat(auto-fill,minmax(15rem,1fr))}
.histogram{display:block;width:100%;height:auto}.bin{fill:var(--anonymized)}.few{fill:var(--line)}
.axis,.front{stroke:var(--quiet);stroke-width:1}.front{stroke:var(--anonymized);stroke-dasharray:4 3}
.beaten{fill:var(--back);stroke:var(--quiet);stroke-width:1.5}.curve{stroke:var(--anonymized);stroke-width:1.5}
.plot{max-width:46rem}
.histogram text{font-size:10px;fill:var(--quiet)}
summary{cursor:pointer;color:var(--quiet)}details[open] summary{margin-bottom:.5rem}
footer{margin-top:3.5rem;padding-top:1rem;border-top:1px solid var(--line)}
article{margin-top:1.5rem;padding-top:1.5rem;border-top:1px solid var(--line)}
article h3{margin:0 0 .6rem;font-size:1rem;font-weight:600}article h3 small{font-weight:400;margin-left:.6rem}
.pair{display:grid;gap:1rem;grid-template-columns:repeat(auto-fill,minmax(min(100%,22rem),1fr));margin-bottom:.8rem}
.pair .photo{max-height:24rem}dd .quiet{margin:0}article summary{font-size:.875rem}
dl{display:grid;grid-template-columns:minmax(6rem,max-content) 1fr;gap:.2rem 1rem;margin:0 0 .8rem;font-size:.9rem}
dt{color:var(--quiet)}dd{margin:0}
@media print{main{max-width:none;padding:0}}
"""


def frame(title: str, body: Iterable[str]) -> str:
    """A whole document that loads nothing from anywhere."""
    policy = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<meta name="referrer" content="no-referrer">\n<meta name="color-scheme" content="light dark">\n'
        f"<title>{title}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n<main>\n"
        + "\n".join(part for part in body if part)
        + "\n</main>\n</body>\n</html>\n"
    )


def section(title: str, content: str) -> str:
    """A titled part; nothing without content."""
    return f"<section><h2>{title}</h2>{content}</section>" if content else ""


def top(report: Summary) -> Iterator[str]:
    """What stands first on both pages: a warning if the run was not verified, the counts, what was looked for."""
    if report.unverified:
        yield (
            f'<p class="banner"><b>Unverified:</b> {report.unverified:,} of the published images. '
            "Whether something private is left in them is not known.</p>"
        )
    if report.statuses:
        words = "".join(
            f'<li><i class="{name}"></i><b>{k:,}</b> {name}<small>{k / (report.rows or 1):.1%}</small></li>'
            for name, k in report.statuses.items()
        )
        total = " + ".join(f"{k:,}" for k in report.statuses.values())
        yield (
            f'<section>{bar(list(report.statuses.items()))}<ul class="legend">{words}</ul>'
            f'<p class="quiet">{report.rows:,} rows = {total}. Every row of the source is counted once.</p></section>'
        )
    if "inspected_criteria" not in report.run:
        yield '<section><p class="quiet">What was looked for is not recorded here.</p></section>'
        return
    looked, not_looked = (
        "".join(f"<li>{esc(name)}</li>" for name in report.run.get(key) or ["nothing"])
        for key in ("inspected_criteria", "not_inspected")
    )
    warning = "<p>These may be in the published images.</p>" if report.run.get("not_inspected") else ""
    yield (
        f'<section class="scope"><div><h2>Looked for</h2><ul>{looked}</ul></div>'
        f'<div class="not"><h2>Not looked for</h2><ul>{not_looked}</ul>{warning}</div></section>'
    )


def verdict(report: Summary) -> str:
    """The one sentence in the heading."""
    if report.statuses is None:
        return f"{report.rows:,} images, not anonymized yet."
    if not report.rows:
        return "The source held no images, so nothing is published."
    safe, edited, held = report.statuses.values()
    if report.run.get("dry_run"):
        rest = f", {held:,} would be withheld" if held else ""
        return (
            f"{report.rows:,} images were tried out: {edited:,} would be edited, in {safe:,} nothing was found{rest}."
        )
    if held == report.rows:
        return f"Nothing is published: all {held:,} images are withheld."
    proof = " and inspected again" if report.unverified == 0 else ""
    parts = [f"{safe:,} in which nothing was found"] * bool(safe) + [f"{edited:,} anonymized{proof}"] * bool(edited)
    rest = f"; {held:,} withheld" if held else ""
    rest += f"; {report.unverified:,} not verified" if report.unverified else ""
    return f"{safe + edited:,} of {report.rows:,} images are in the public set: {', '.join(parts)}{rest}."


_ATTACK = (
    "An attacker who holds all originals looks for the one that an anonymized image was made from. Found at chance "
    "is as safe as it can be. Controls: untouched originals must find themselves, and a metric must tell an "
    "untouched pair from a pair that does not belong together."
)
_RELIABLE = (
    "No inspection finds everything. This is how often the same inspection was right on VISPR, a public set of "
    "photos that people have labelled; on other photos it may do better or worse."
)


def evaluation_sections(found: Mapping[str, Any], private: bool) -> Iterator[str]:
    """The attack, the controls and the inspection's reliability, of what `Evaluation.plain` gave, if anything."""
    own = {name: value for name, value in found.items() if name != "inspection"}
    tables = join_tables(evaluation_tables(own, private), html_table, "")
    yield section("Attack and controls", f'<p class="quiet">{_ATTACK}</p>{tables}' if tables else "")
    if inspection := found.get("inspection"):
        tables = join_tables(inspection_tables(inspection), html_table, "")
        words = f'<p class="quiet">{_RELIABLE}</p>'
        yield section("How reliable the inspection is", f"{words}{inspection_plot(inspection)}{tables}")


def picture(row: Mapping[str, Any] | None, side: int) -> str:
    """The published picture of a row of `published`, or a placeholder."""
    value = (row or {}).get(c.ANONYMIZED_IMAGE) or {}
    try:
        with Image.open(io.BytesIO(value.get("bytes") or b"")) as image:
            size = image.size
            image.draft("RGB", (2 * side, 2 * side))
            return photo(thumbnail(image, side), size)
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        return '<p class="absent">image not readable</p>'


def map_threads(work: Callable[[T], U], items: Iterable[T]) -> list[U]:
    """`work` on every item, in order, on all cores: Pillow decodes and encodes outside the interpreter's lock."""
    with ThreadPoolExecutor(min(8, len(os.sched_getaffinity(0)))) as pool:
        return list(pool.map(work, items))


def write_page(path: Path, text: str, private: bool) -> None:
    """Write a file whole or not at all, for its owner alone if it is private; its folder is made if necessary."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    with write_whole(path, path.parent, PRIVATE_MODE if private else PUBLIC_MODE) as file:
        file.write(text.encode())
