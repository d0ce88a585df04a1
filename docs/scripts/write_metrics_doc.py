"""docs/metrics.md, computed from the docstrings and tables of the code: `python docs/scripts/write_metrics_doc.py`."""

import inspect
import pkgutil
import re
from collections.abc import Callable
from typing import Any, NamedTuple

from u2s_datasets.parts.metrics import privacy, reidentification
from u2s_datasets.parts.metrics.definitions import COUNT, SPECS, ScoreSpec
from u2s_datasets.parts.metrics.encoders import ClipEncoder, LpipsNetwork
from u2s_datasets.parts.metrics.face_encoders import InsightFace, OnnxFaces

_FACES = f"{InsightFace.weights}; or {OnnxFaces.weights}"
_WEIGHTS = {"clip": ClipEncoder.weights, "lpips": LpipsNetwork.weights, "faces": _FACES}


class Entry(NamedTuple):
    """One metric: its name, group, meaning, range, direction, formula's function, and what it needs."""

    name: str
    group: str
    meaning: str
    range: str
    better: str
    function: Callable[..., Any] | None
    needs: str


def _entry(spec: ScoreSpec) -> Entry:
    better = "–" if spec.goal == COUNT else spec.better
    function = pkgutil.resolve_name(f"u2s_datasets.{spec.formula}") if spec.formula else None
    needs = _WEIGHTS.get(spec.part, spec.needs)
    return Entry(spec.name, spec.group, spec.meaning, spec.value_range, better, function, needs)


_OF_A_SET = "privacy, over the set"
_MODEL = SPECS["vlm_score"].needs
_ENCODERS = f"{ClipEncoder.weights}; for faces {_FACES}"
ENTRIES = (
    *map(_entry, SPECS.values()),
    Entry("race entropy", _OF_A_SET, "", "[0, 1]", "higher", privacy.race_entropy, _MODEL),
    Entry("re-identification", _OF_A_SET, "", "[0, 1]", "lower", reidentification.rate, _ENCODERS),
)

_COMPAT = (
    ("ssim, lpips", "none for two sizes: their pixels are not aligned", "the edited image is stretched to the size"),
    ("face_similarity", "0 where the edited image shows no face", "such images are left out of the mean"),
    ("text_similarity", "case-folded; none for an original without text", "case counts; no text is the word NO_TEXT"),
    ("race entropy", "seven labels become five; none without people", "two labels are dropped; 0 without people"),
)

_HEAD = """# Metrics

Made by `python docs/scripts/write_metrics_doc.py`; do not edit.

`u2s eval DIR` measures a finished run, `u2s.Score` a dataset row by row, `u2s.report` the set. The formulas are pure
functions; the networks are parts that are given to `u2s.Score` and loaded once per process. Nothing is downloaded at
run time: where weights are absent, the score is null and the report says what it would need.

- Every mean stands beside its n, the number of missing rows and, for the owner, why they are missing: withheld, no
  face or no text in the original, an original that is not there, two sizes, a failure.
- Its 95% interval is by bootstrap, 1000 resamples from one seed; above 20,000 rows it is the normal one.
- Controls: each metric is also measured on originals as their own edit ("no-op") and beside another row's edited image
  ("shuffled"). A metric that does not tell these apart proves nothing. Untouched, the ratio, SSIM, FaceSim and TextSim
  are 1, LPIPS is 0, and every original finds itself; the table says so beside what was measured.
- `u2s eval DIR --vispr FILE.json` and `u2s.report(ds, vispr=...)` add a result of `u2s vispr` to the report: how often
  the same inspection was right on photos that people have labelled.
- Row scores are private, since they confirm a candidate original. What anyone may see are aggregates of 5 rows or more.
"""


_GATE = """## The quality gate

`u2s.Gate` turns rows into `withheld` by their scores; the profiles use it as it is. Limits (`above`, `at_most`) judge
an edit, so they are for edited rows alone: in a `safe` row nothing was found and nothing was changed, and its people
are of course the same. What is still found (`residual_faces`, `residual_text`) withholds safe rows too, and redacted
ones; after a rewriting editor, which rightly shows new people, only what verification left over does, and a face that
is still the same person. Whether the last editor redacts stands in the provenance (`attempts[-1].redacts`); where it
does not, the row is judged like a redacted one.

Two faces are one person from a cosine of 0.2, the lower end of what the makers of antelopev2 call "likely the same"
(0.28 and above: the same). A network of your own needs its own threshold: `same=`.
"""

_COST = """## Speed and memory

`u2s bench eval` gives the rate of each metric here, and SSIM's on one thread and on all. Measured on 2026-11-20 on
two cores of an AMD EPYC, both otherwise idle, by `u2s bench eval --rows 120`: SSIM on two threads is 1.64 times as
fast as on one (118 and 72 pairs a second; a busy machine shows less). It is the only formula that takes time: TextSim
and the share of surviving words take 2 to 10 microseconds a pair, 10,000 pairs a tenth of a second, so neither is
spread over cores. The OCR and the networks before them use the cores by themselves, and in `u2s anonymize` every
worker process scores its own rows.

`u2s bench eval --memory --rows 30000` evaluates a run of a tenth of the rows and one of all, each in a fresh process,
with embeddings as wide as CLIP ViT-L/14's (same machine and day):

| rows | seconds | MiB of its own | with mapped files |
|---|---|---|---|
| 1,000 | 5 | 173 | 279 |
| 3,000 | 16 | 172 | 289 |
| 10,000 | 47 | 184 | 328 |
| 30,000 | 167 | 214 | 441 |

So what grows is about 1.5 KiB a row: eight bytes per score, ids, and numbers of the gallery, whose embeddings lie on
the disk and are mapped.
"""


def markdown() -> str:
    """The whole document."""
    parts = [_HEAD, _overview(), _details(), _compat(), _GATE, _COST]
    return "\n".join(parts)


def _overview() -> str:
    head = ["| metric | group | what it says | range | better | needs |", "|---|---|---|---|---|---|"]
    lines = [f"| `{e.name}` | {e.group} | {e.meaning} | {e.range} | {e.better} | {e.needs} |" for e in ENTRIES]
    return "\n".join(["## Overview", "", *head, *lines, ""])


def _details() -> str:
    """The docstrings of the formulas, up to their arguments."""
    parts = ["## Formulas", ""]
    functions = dict.fromkeys(e.function for e in ENTRIES if e.function)
    functions |= dict.fromkeys((reidentification.ranks,))
    for function in functions:
        names = ", ".join(f"`{e.name}`" for e in ENTRIES if e.function is function) or "re-identification: ranks"
        module = str(getattr(function, "__module__", "")).removeprefix("u2s_datasets.")
        parts += [f"### {names}", "", f"`{module}.{function.__name__}`", "", described(function), ""]
    return "\n".join(parts)


def described(function: Callable[..., Any]) -> str:
    """A docstring without its lists of arguments and errors; what it returns stays, as that tells what is missing."""
    blocks = re.split(r"\n\n", inspect.getdoc(function) or "")
    kept = [b for b in blocks if not re.match(r"(Args|Raises):", b)]
    return "\n\n".join(re.sub(r"\AReturns:\n\s*", "Gives: ", re.sub(r"\n\s+", "\n", b)) for b in kept)


def _compat() -> str:
    head = ["| metric | here | `paper_compat=True` |", "|---|---|---|"]
    lines = [f"| {name} | {ours} | {theirs} |" for name, ours, theirs in _COMPAT]
    words = (
        "The paper's definitions, as far as its public code tells them. Both ways keep pixels in place, show the\n"
        "judge both images and take no score outside 0 to 100: those were slips, not definitions. The two labels are\n"
        "Middle Eastern and Indian."
    )
    return "\n".join(["## Where the paper's definitions differ", "", words, "", *head, *lines, ""])


if __name__ == "__main__":
    print(markdown(), end="")
