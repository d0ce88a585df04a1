"""`u2s eval`: the evaluation of a finished run, from its folder to its reports."""

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from u2s_datasets import columns as c
from u2s_datasets.errors import MissingExtra, MissingWeights
from u2s_datasets.evaluation.attacks import Attack
from u2s_datasets.evaluation.measure_rows import EvaluationJob, measure_controls, measure_rows
from u2s_datasets.evaluation.report.inspection import read_inspection
from u2s_datasets.evaluation.report.report import Report, report, write_reports
from u2s_datasets.evaluation.report.run_rows import RunRows
from u2s_datasets.evaluation.report.summary import check_over
from u2s_datasets.parts import Part, catalog
from u2s_datasets.parts.metrics.definitions import FEW, SPECS
from u2s_datasets.runs.change import Change
from u2s_datasets.runs.files import PRIVATE_MODE, PUBLIC_MODE
from u2s_datasets.runs.layout import EVALUATION
from u2s_datasets.runs.manifest import read_manifest
from u2s_datasets.runs.origin import find_origin
from u2s_datasets.runs.writer import open_finished
from u2s_datasets.sources.open import open_source
from u2s_datasets.stages.score import MODELS, NETWORKS, Score, make_network

_MODEL = "a model that sees: --vlm (such as InternVL3.5-8B-HF, Apache-2.0)"


@dataclass(frozen=True)
class Evaluation:
    """What was found of a set beyond its rows' scores.

    Args:
        attacks: re-identification, for every encoder that was given.
        controls: "no-op" and "shuffled" -> score -> (rows, mean), on a few rows.
        absent: score -> (what it would need, why that is not here). The second may name folders: private.
        inspection: a result of `u2s vispr`, see `inspection.read_inspection`.
    """

    attacks: tuple[Attack, ...]
    controls: Mapping[str, Mapping[str, tuple[int, float]]]
    absent: Mapping[str, tuple[str, str]]
    inspection: Mapping[str, Any] | None = None

    def plain(self, private: bool) -> dict[str, Any]:
        """As plain values; for anyone only rates and means of 5 rows or more, with two digits."""
        attacks = [dataclasses.asdict(attack) for attack in self.attacks]
        controls = {
            kind: {name: {"n": n, "mean": mean} for name, (n, mean) in found.items()}
            for kind, found in self.controls.items()
        }
        absent = {name: ": ".join(filter(None, why if private else why[:1])) for name, why in self.absent.items()}
        if not private:
            attacks = _public_attacks(attacks)
            controls = {
                kind: {k: {"n": v["n"], "mean": round(v["mean"], 2)} for k, v in found.items() if v["n"] >= FEW}
                for kind, found in controls.items()
            }
        known = {} if self.inspection is None else {"inspection": dict(self.inspection)}
        return {"reidentification": attacks, "controls": controls, "absent": absent, **known}


@dataclass(frozen=True)
class Evaluated:
    """A run's report with what the evaluation added, and how it was made. Printed, it is a table with everything."""

    report: Report
    evaluation: Evaluation
    over: str = "all"
    paper_compat: bool = False

    def __str__(self) -> str:
        return str(self.report)

    def to_json(self, private: bool = False) -> str:
        """The numbers as JSON; unless `private`, for anyone."""
        how = {"over": self.over, "paper_compat": self.paper_compat}
        plain = how | json.loads(self.report.to_json(private))
        return json.dumps(plain, indent=2, ensure_ascii=False) + "\n"


def _public_attacks(attacks: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Rates over 5 rows or more, rounded, of the encoders whose attack on the edited images has any.

    A control alone says nothing.
    """
    shown = []
    for attack in attacks:
        rates = [
            {k: rate[k] for k in ("k", "n", "gallery")}
            | {k: None if rate[k] is None else round(rate[k], 2) for k in ("rate", "low", "high", "chance")}
            for rate in attack["rates"]
            if rate["n"] >= FEW and rate["gallery"] >= FEW
        ]
        if rates:
            shown.append({"encoder": attack["encoder"], "kind": attack["kind"], "rates": rates})
    tried = {attack["encoder"] for attack in shown if attack["kind"] == "edited"}
    return [attack for attack in shown if attack["encoder"] in tried]


def evaluate_run(
    out: str | Path,
    *,
    original: str | None = None,
    over: str = "all",
    paper_compat: bool = False,
    seed: int = 0,
    score: Score | None = None,
    parts: Mapping[str, Part] | None = None,
    vispr: str | Path | None = None,
) -> Evaluated:
    """Measure what a run did not, attack it, and write its reports.

    `private/eval.parquet` gets the scores of single rows, `private/eval.json` and `.md` everything else, `eval.json`
    and `eval.md` what may be shown; both report pages are written again.

    Args:
        out: folder of a finished run.
        original: address of the originals; without it, where they were.
        over: "all" or "flagged".
        paper_compat: the paper's definitions where they differ; see docs/metrics.md.
        seed: of the controls' sample.
        score: what to measure with, instead of `parts` and their defaults.
        parts: "clip", "lpips" or "faces" -> the part, by default the usual one if its weights are here; "vlm" -> a
            model that sees, as judge, as reader and for the apparent races.
        vispr: a result of `u2s vispr`, of the profile that made the run: how reliable its inspection is.

    Raises:
        SetupError: there is no finished run, no such source, or a part that was asked for cannot work.
    """
    root = Path(out).expanduser()
    check_over(over)
    inspection = None if vispr is None else read_inspection(vispr)
    absent: dict[str, tuple[str, str]] = {}
    if score is None:
        score, absent = _make_score(parts or {}, paper_compat)
    score.check()
    source = find_origin(read_manifest(root), to_show=True) if original is None else open_source(original)
    find = None if source is None else source.original
    with open_finished(root, but=EVALUATION) as output:
        change = Change(output)
        change.drop(*EVALUATION)
        change.commit()
        job = EvaluationJob(RunRows(root), score, find, over, seed)
        scores = output.tmp / output.evaluated.name
        attacks, controls = measure_rows(job, scores), measure_controls(job)
        scores.replace(output.evaluated)
        output.bind("private/eval.parquet")
        evaluation = Evaluation(attacks, controls, absent, inspection)
        beyond = {private: evaluation.plain(private) for private in (True, False)}
        found = dataclasses.replace(report(root, over, score.paper_compat), beyond=beyond)
        made = Evaluated(found, evaluation, over, score.paper_compat)
        for private, folder, mode in ((True, output.private, PRIVATE_MODE), (False, root, PUBLIC_MODE)):
            output.write(folder / "eval.json", made.to_json(private).encode(), mode)
            output.write(folder / "eval.md", found.to_markdown(private).encode(), mode)
        output.bind("eval.json", "private/eval.json")
        write_reports(output, original=find)
    return made


def _make_score(parts: Mapping[str, Part], paper_compat: bool) -> tuple[Score, dict[str, tuple[str, str]]]:
    """The scoring step; and per score that it cannot measure, what that would need and why it is not here."""
    chosen: dict[str, Any] = {}
    absent: dict[str, tuple[str, str]] = {}
    for field, (_, default) in NETWORKS.items():
        part = parts.get(field)
        if part is None:
            part = default()
            try:
                part.check()
            except (MissingExtra, MissingWeights) as error:
                absent |= dict.fromkeys(_scores_by(field), (default.weights, str(error)))
                continue
        chosen[field] = part
    if "vlm" in parts:
        chosen |= dict.fromkeys(MODELS, parts["vlm"])
    else:
        absent |= dict.fromkeys((*_scores_by("judge"), *c.RACE), (_MODEL, ""))
    return Score(**chosen, paper_compat=paper_compat), absent


def _scores_by(field: str) -> list[str]:
    """The scores that the part in this field of `Score` measures, without their details."""
    return [spec.name for spec in SPECS.values() if spec.part == field and not spec.detail_of]


def make_parts(clip: str | None, lpips: str | None, faces: str | None, vlm: str | None) -> dict[str, Part]:
    """The parts that these arguments of the command line name; see `u2s eval --help`."""
    named = {"clip": clip, "lpips": lpips, "faces": faces}
    parts: dict[str, Part] = {field: make_network(field, given) for field, given in named.items() if given}
    if vlm:
        address, _, model = vlm.partition("#")
        remote = {"model": model, "base_url": address}
        name, options = ("openai", remote) if "://" in address else ("transformers", {"model": vlm})
        parts["vlm"] = catalog.make("backend", name, catalog.BACKENDS, **options)
    return parts
