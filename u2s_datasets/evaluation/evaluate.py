"""`u2s eval`: the evaluation of a finished run, from its folder to its reports."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from u2s_datasets import columns as c
from u2s_datasets.errors import MissingExtra, MissingWeights, SetupError
from u2s_datasets.evaluation.controls import measure_controls
from u2s_datasets.evaluation.measure_rows import measure_rows
from u2s_datasets.evaluation.report.inspection import read_inspection
from u2s_datasets.evaluation.report.report import Report, report, write_reports
from u2s_datasets.evaluation.report.run_rows import RunRows
from u2s_datasets.evaluation.report.summary import OVER
from u2s_datasets.evaluation.result import Evaluation
from u2s_datasets.parts import Backend, Part, catalog
from u2s_datasets.parts.metrics.encoders import ClipEncoder, LpipsNetwork
from u2s_datasets.parts.metrics.face_encoders import InsightFace
from u2s_datasets.runs.manifest import read_manifest
from u2s_datasets.runs.origin import find_origin
from u2s_datasets.runs.writer import Output
from u2s_datasets.sources.open import open_source
from u2s_datasets.stages.score import Score, say_nothing

_SCORES = {
    "clip": (c.CLIP_SIMILARITY, c.CLIP_RATIO),
    "lpips": (c.LPIPS,),
    "faces": (c.FACE_SIMILARITY,),
    "judge": (c.VLM_SCORE,),
    "people": c.RACE,
}
"""What each part of `Score` measures."""
_DEFAULTS: dict[str, type[Part]] = {"clip": ClipEncoder, "lpips": LpipsNetwork, "faces": InsightFace}
_MODEL = "a model that sees: --vlm (such as InternVL3.5-8B-HF, Apache-2.0)"


@dataclass(frozen=True)
class Evaluated:
    """A run's report with what the evaluation added, and how it was made. Printed, it is a table with everything."""

    report: Report
    evaluation: Evaluation
    over: str = "all"
    paper_compat: bool = False

    def __str__(self) -> str:
        return str(self.report)

    def to_markdown(self, private: bool = False) -> str:
        """The tables in Markdown; unless `private`, for anyone."""
        return self.report.to_markdown(private)

    def to_json(self, private: bool = False) -> str:
        """The numbers as JSON; unless `private`, for anyone."""
        how = {"over": self.over, "paper_compat": self.paper_compat}
        plain = how | json.loads(self.report.to_json(private))
        return json.dumps(plain, indent=2, ensure_ascii=False) + "\n"


def evaluate_run(
    out: str | Path,
    *,
    original: str | None = None,
    over: str = "all",
    paper_compat: bool = False,
    seed: int = 0,
    score: Score | None = None,
    parts: dict[str, Part] | None = None,
    vlm: Backend | None = None,
    vispr: str | Path | None = None,
) -> Evaluated:
    """Measure what a run did not, attack it, and write its reports.

    `private/eval.parquet` gets the scores of single rows, `private/eval.json` and `.md` everything else, `eval.json`
    and `eval.md` what may be shown; both report pages are written again.

    Args:
        out: folder of a finished run.
        original: where the originals are; without it, where they were.
        over: "all" or "flagged".
        paper_compat: the paper's definitions where they differ; see docs/metrics.md.
        seed: of the controls' sample.
        score: what to measure with, instead of what follows.
        parts: "clip", "lpips" or "faces" -> the part; where none, the default part if its weights are here.
        vlm: a model that sees, as judge, as reader and for the apparent races.
        vispr: a result of `u2s vispr`, of the profile that made the run: how reliable its inspection is.

    Raises:
        SetupError: there is no finished run, no such source, or a part that was asked for cannot work.
    """
    root = Path(out).expanduser()
    if over not in OVER:
        raise SetupError(f"over={over!r} is unknown; use one of: {', '.join(OVER)}")
    inspection = None if vispr is None else read_inspection(vispr)
    absent: dict[str, tuple[str, str]] = {}
    if score is None:
        score, absent = _score(parts or {}, vlm, paper_compat)
    score.check()
    say_nothing()
    source = find_origin(read_manifest(root), to_show=True) if original is None else open_source(original)
    find = None if source is None else source.original
    with Output(root) as output:
        output.evaluated.unlink(missing_ok=True)
        attacks = measure_rows(RunRows(root), score, find, output.tmp, over, seed)
        controls = measure_controls(RunRows(root), score, find, over, seed)
        (output.tmp / output.evaluated.name).replace(output.evaluated)
        evaluation = Evaluation(attacks, controls, absent, inspection)
        beyond = {private: evaluation.plain(private) for private in (True, False)}
        found = dataclasses.replace(report(root, over, score.paper_compat), beyond=beyond)
        made = Evaluated(found, evaluation, over, score.paper_compat)
        for private, folder, mode in ((True, output.private, 0o600), (False, root, 0o644)):
            output.write(folder / "eval.json", made.to_json(private).encode(), mode)
            output.write(folder / "eval.md", made.to_markdown(private).encode(), mode)
        write_reports(output, original=find)
    return made


def _score(parts: dict[str, Part], vlm: Backend | None, paper_compat: bool) -> tuple[Score, dict[str, tuple[str, str]]]:
    """The scoring step, and per score that it cannot measure what it would need and why that is not here."""
    chosen: dict[str, Any] = {}
    absent: dict[str, tuple[str, str]] = {}
    for name, kind in _DEFAULTS.items():
        part = parts.get(name)
        if part is None:
            part = kind()
            try:
                part.check()
            except (MissingExtra, MissingWeights) as error:
                absent |= dict.fromkeys(_SCORES[name], (kind.weights, str(error)))  # type: ignore[attr-defined]
                continue
        chosen[name] = part
    if vlm is None:
        absent |= dict.fromkeys((*_SCORES["judge"], *_SCORES["people"]), (_MODEL, ""))
    else:
        chosen |= {"judge": vlm, "reader": vlm, "people": vlm}
    return Score(**chosen, paper_compat=paper_compat), absent


def parts_named(
    clip: str | None, lpips: str | None, faces: str | None, vlm: str | None
) -> tuple[dict[str, Part], Backend | None]:
    """The parts that these words of the command line name; see `u2s eval --help`."""
    parts: dict[str, Part] = {}
    if clip:
        parts["clip"] = catalog.make("encoder", "clip", catalog.ENCODERS, model=clip)
    if lpips:
        parts["lpips"] = catalog.make("encoder", "lpips", catalog.ENCODERS, trunk=lpips)
    if faces and faces.endswith(".onnx"):
        parts["faces"] = catalog.make("encoder", "onnx_faces", catalog.ENCODERS, file=faces)
    elif faces:
        parts["faces"] = catalog.make("encoder", faces, catalog.ENCODERS)
    if not vlm:
        return parts, None
    address, _, model = vlm.partition("#")
    if "://" in address:
        return parts, catalog.make("backend", "openai", catalog.BACKENDS, model=model, base_url=address)
    return parts, catalog.make("backend", "transformers", catalog.BACKENDS, model=vlm)
