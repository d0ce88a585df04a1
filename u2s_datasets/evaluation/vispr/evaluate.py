"""How reliable is `inspect`? Its flags against VISPR's labels (paper, section 4.4, table 1 and supplement S2.3).

Five questions are asked of every image of a split, each judged over all of them. *All attributes*: the step as it is,
by its own criteria; an image is private unless it is labelled `a0_safe`. Then the paper's four groups (`vispr.GROUPS`):
the step asks for that group alone, by a prompt of its own; positives are the images with one of the group's attributes,
negatives all the others, whatever else is private in them.

An image that cannot be read or judged is flagged with a score of 1, as everywhere (law 1), and counted as failed.
A group that nothing in the profile looks for is not measured.
"""

import copy
import dataclasses
import importlib
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from u2s_datasets import columns
from u2s_datasets.errors import SetupError
from u2s_datasets.evaluation.report.layout import write_page
from u2s_datasets.evaluation.report.tables import Table, share, text_table
from u2s_datasets.evaluation.vispr.answers import Answer, AnswerFile, Answers
from u2s_datasets.evaluation.vispr.dataset import Example, read_split
from u2s_datasets.parts import catalog
from u2s_datasets.parts.metrics import flags
from u2s_datasets.privacy import criteria as criteria_
from u2s_datasets.privacy import vispr_attributes as vispr
from u2s_datasets.stages import profiles
from u2s_datasets.stages.batch import Row
from u2s_datasets.stages.changes import Backends
from u2s_datasets.stages.inspect import Inspect
from u2s_datasets.stages.profiles import Profile

RESAMPLES = 2_000


@dataclass(frozen=True)
class Measured:
    """The figures of one question.

    Args:
        name: "all", or the group's.
        title: its row in the table.
        judged_by: "model" and the detectors that took part.
        not_measured: why there are no figures; "" if there are.
        counts: over all images.
        failed: images that could not be read or judged, by reason code; they count as flagged.
        metrics: recall, precision and F1 with their intervals.
        curve: over the threshold of `privacy_score`; None where no image is private.
    """

    name: str
    title: str
    judged_by: tuple[str, ...] = ()
    not_measured: str = ""
    counts: flags.Counts | None = None
    failed: dict[str, int] = dataclasses.field(default_factory=dict)
    metrics: dict[str, flags.Interval] = dataclasses.field(default_factory=dict)
    curve: flags.Curve | None = None


@dataclass(frozen=True)
class VisprResult:
    """The evaluation of one profile; `str()` is a table.

    Args:
        profile: its name.
        split: of the dataset.
        images: how many were judged.
        measured: all attributes, then the groups.
        facts: how it was measured, for the JSON.
    """

    profile: str
    split: str
    images: int
    measured: tuple[Measured, ...]
    facts: dict[str, Any] = dataclasses.field(repr=False)

    def __str__(self) -> str:
        head = ("criterion", "images with it", "flagged", "failed", "recall", "precision", "F1", "average precision")
        rows = []
        for m in self.measured:
            if m.counts is not None:
                positives = m.counts.true_positives + m.counts.false_negatives
                flagged = m.counts.true_positives + m.counts.false_positives
                images = (f"{n:,}" for n in (positives, flagged, sum(m.failed.values())))
                shares = (share(i.value, i.low, i.high) for i in (m.metrics[name] for name in flags.METRICS))
                average = m.curve.average_precision if m.curve else None
                rows.append((m.title, *images, *shares, share(average)))
        parts = [text_table(Table(f"VISPR {self.split}, profile {self.profile}, {self.images:,} images", head, rows))]
        parts += [f"{m.title}: not measured: {m.not_measured}" for m in self.measured if m.not_measured]
        if failed := max((sum(m.failed.values()) for m in self.measured), default=0):
            parts.append(f"Up to {failed:,} images could not be read or judged; they count as flagged.")
        parts.append("In brackets: 95% bootstrap intervals over images.")
        if self.facts["not_inspected"]:
            parts.append(text_table(Table("Not looked for", rows=[(words,) for words in self.facts["not_inspected"]])))
        return "\n".join(parts)

    def to_json(self) -> str:
        """Everything, the curves too, as JSON; the same for the same inputs."""
        questions = [dataclasses.asdict(m) for m in self.measured]
        facts = {"dataset": "VISPR", "split": self.split, "profile": self.profile, "images": self.images, **self.facts}
        return json.dumps(facts | {"questions": questions}, indent=1, ensure_ascii=False, allow_nan=False)

    def write(self, path: Path) -> None:
        """Write the JSON, whole or not at all."""
        write_page(path, self.to_json() + "\n", private=False)


def evaluate_vispr(
    root: str | Path,
    split: str = "test",
    *,
    profile: str | Profile = "cpu",
    detectors: Sequence[str] | None = None,
    backend: Backends = None,
    models: Mapping[str, str] | None = None,
    criteria: str | Path | Sequence[str] | None = None,
    threshold: float | None = None,
    method: str | None = None,
    limit: int | None = None,
    batch_size: int = 16,
    seed: int = 0,
    out: str | Path | None = None,
    progress: bool = False,
) -> VisprResult:
    """Ask the profile's `inspect` about every image of a split and compare with its labels.

    Args:
        root: the dataset's folder, see `vispr.dataset`.
        split: "train", "val" or "test"; the paper uses "test".
        profile: a profile, its name, or "package.module:NAME" of one of your own.
        detectors: names of `catalog.DETECTORS` instead of the profile's; () for its model alone.
        backend, models: what judges instead of the profile's, if `profile` is a name; see `ProfileChanges`.
        criteria: for `load_criteria`, instead of the profile's; the groups keep their own.
        threshold: of the model's score, in (0, 1], instead of the profile's.
        method: "choose" or "generate", see `Inspect`, instead of the profile's.
        limit: judge only so many images, the first ones.
        batch_size: images that are judged together; it changes no answer.
        seed: of the bootstrap.
        out: where to write `to_json()`. The answers are kept beside it, in a private file whose name ends in
            ".answers.jsonl": a call that was killed resumes there, and one with more images asks only for those.
        progress: show a progress bar on standard error.

    Raises:
        SetupError: before the first image, naming the value and the remedy.
    """
    for name, value in (("limit", limit), ("batch_size", batch_size)):
        if value is not None and value < 1:
            raise SetupError(f"invalid {name}={value}; expected a whole number of 1 or more")
    if seed < 0:
        raise SetupError(f"invalid seed={seed}; expected a whole number of 0 or more")
    chosen = _load_profile(profile, backend, models)
    inspect = _Changes(detectors, criteria, threshold, method).apply(chosen)
    questions = _questions(inspect)
    target = None if out is None else _check_result_path(Path(out).expanduser())
    examples = read_split(root, split, limit)
    with AnswerFile(target and target.with_suffix(".answers.jsonl"), _binding(questions)) as answers:
        _answer(questions, examples, answers, batch_size, progress)
        known = [answers.get(example) or {} for example in examples]
        measured = tuple(question.measure(examples, known, seed) for question in questions)
        facts = _facts(inspect, seed)
        result = VisprResult(chosen.name, split.removesuffix("2017"), len(examples), measured, facts)
        if target is not None:
            result.write(target)
    return result


def _load_profile(given: str | Profile, backend: Backends, models: Mapping[str, str] | None) -> Profile:
    if isinstance(given, str) and ":" not in given:
        by_role = {*(models or ()), *(backend if isinstance(backend, Mapping) else ())}
        for role in sorted(by_role - {"inspect"}):
            raise SetupError(f"role {role!r} is not evaluated; leave it out, only 'inspect' counts here")
        # Of its parts only `inspect` is used, and `_Changes.apply` checks that one.
        return profiles.build(given, backend=backend, models=models)
    if backend or models:
        raise SetupError("backend and models are for a profile that is named; this one has its own, leave them out")
    if isinstance(given, Profile):
        return given
    module, _, name = given.partition(":")
    try:
        found = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError) as error:
        raise SetupError(f"profile {given!r} cannot be imported: {error}; check the module and the name") from error
    if not isinstance(found, Profile):
        raise SetupError(f"profile {given!r} is of type {type(found).__name__}; expected a u2s_datasets.Profile")
    return found


@dataclass(frozen=True)
class _Changes:
    """What is not as in the profile; None is as in the profile. See `evaluate_vispr`."""

    detectors: Sequence[str] | None
    criteria: str | Path | Sequence[str] | None
    threshold: float | None
    method: str | None

    def apply(self, profile: Profile) -> Inspect:
        """The step that is evaluated. Raises `SetupError` for a change without effect or a step that cannot work."""
        changes: dict[str, Any] = {}
        for name in ("criteria", "threshold", "method"):
            value = getattr(self, name)
            if value is not None and profile.inspect.backend is None:
                raise SetupError(f"{name} is for a model, and the profile {profile.name!r} has none; leave it out")
            if value is not None:
                changes[name] = criteria_.load_criteria(value) if name == "criteria" else value
        if self.detectors is not None:
            made = (catalog.make("detector", name, catalog.DETECTORS) for name in self.detectors)
            changes["detectors"] = tuple(made)
        inspect = dataclasses.replace(profile.inspect, **changes)
        if self.threshold is not None and inspect.method == "generate":
            raise SetupError(
                "threshold is for method='choose'; what is written with 'generate' has no score to compare"
            )
        inspect.check()
        return inspect


@dataclass(frozen=True)
class _Question:
    """One question and who answers it.

    Args:
        name, title: of the question.
        step: what is asked; None where nothing in the profile looks for this.
        ids: the attributes that make an image positive; () for every image that is not labelled safe.
        categories: of the detections that count for this question; None for all.
    """

    name: str
    title: str
    step: Inspect | None
    ids: tuple[str, ...] = ()
    categories: tuple[str, ...] | None = None

    def ask(self, rows: Sequence[Row]) -> list[Answer]:
        """Answers for rows at which `Inspect.look` looked, and which stay as they are."""
        assert self.step is not None
        copies = [copy.copy(row) for row in rows]
        for row in copies:
            row.fields = {}
            if self.categories is not None and row.found is not None:
                row.found = [d for d in row.found if d.category in self.categories]
        self.step.decide(copies)
        answers = []
        for row in copies:
            code = None
            if row.failure is not None:
                code = row.failure.code if row.failure.code in columns.REASON_CODES else "error"
            flag, score = row.fields[columns.PRIVACY_FLAG], row.fields[columns.PRIVACY_SCORE]
            answers.append(Answer(bool(flag), float(score), code))
        return answers

    def measure(self, examples: Sequence[Example], known: Sequence[Answers], seed: int) -> Measured:
        """The figures over all images, from what was answered of each."""
        if self.step is None:
            why = "the profile has no model, and none of its detectors looks for this"
            return Measured(self.name, self.title, not_measured=why)
        answers = [answer[self.name] for answer in known]
        truth = np.array([example.has(self.ids) if self.ids else example.unsafe for example in examples])
        counts = flags.count(truth, np.array([answer.flag for answer in answers]))
        model = () if self.step.backend is None else ("model",)
        return Measured(
            self.name,
            self.title,
            judged_by=(*model, *(f"detector {type(d).__name__}" for d in self.step.detectors)),
            counts=counts,
            failed=dict(sorted(Counter(answer.failed for answer in answers if answer.failed).items())),
            metrics=flags.bootstrap(counts, RESAMPLES, seed=seed),
            curve=flags.precision_recall_curve(truth, np.array([answer.score for answer in answers])),
        )


def _questions(inspect: Inspect) -> list[_Question]:
    """The whole step, then the paper's groups, each asked alone of the model and of the detectors that look for it."""
    questions = [_Question("all", "All attributes", inspect)]
    for name, group in vispr.GROUPS.items():
        detectors = tuple(d for d in inspect.detectors if not set(d.category_names).isdisjoint(group.detected))
        step = None
        if detectors or inspect.backend is not None:
            step = dataclasses.replace(inspect, detectors=detectors, criteria=(group.criterion,))
        questions.append(_Question(name, group.title, step, group.ids, group.detected))
    return questions


def _facts(inspect: Inspect, seed: int) -> dict[str, Any]:
    """How it was measured, for the JSON."""
    inspected, left = inspect.scope()
    return {
        "inspect": inspect.config(),
        "inspected_criteria": inspected,
        "not_inspected": left,
        "bootstrap": {"resamples": RESAMPLES, "level": 0.95, "seed": seed},
    }


def _binding(questions: Sequence[_Question]) -> dict[str, Any]:
    """What shapes the answers: the steps with their parts, code, prompts, criteria and weights."""
    from datasets.fingerprint import Hasher

    return {"vispr": 1, "questions": {q.name: q.step and Hasher.hash(q.step) for q in questions}}


def _answer(
    questions: Sequence[_Question], examples: Sequence[Example], answers: AnswerFile, batch_size: int, progress: bool
) -> None:
    """Ask every question about the images that have no answers yet, and keep what was answered."""
    from tqdm import tqdm

    inspect = questions[0].step
    assert inspect is not None

    todo = [example for example in examples if answers.get(example) is None]
    ready = len(examples) - len(todo)
    asked = [question for question in questions if question.step is not None]
    with tqdm(total=len(examples), initial=ready, unit="img", disable=not progress, smoothing=0.05) as bar:
        for start in range(0, len(todo), batch_size):
            chunk = todo[start : start + batch_size]
            rows = [Row(str(example.path), {}) for example in chunk]
            inspect.detect(rows)  # once for all questions
            given = {question.name: question.ask(rows) for question in asked}
            answers.add(chunk, [{name: found[i] for name, found in given.items()} for i in range(len(chunk))])
            bar.update(len(chunk))


def _check_result_path(target: Path) -> Path:
    """The path, once it is known to be new or an earlier result. Raises `SetupError`."""
    if target.is_file() and target.stat().st_size:
        try:
            is_result = json.loads(target.read_text("utf-8"))["dataset"] == "VISPR"
        except (OSError, ValueError, KeyError, TypeError):
            is_result = False
        if not is_result:
            raise SetupError(f"out={str(target)!r} holds something else; give a new file, such as vispr.json")
    elif target.is_dir() or target.suffix != ".json":
        raise SetupError(f"out={str(target)!r} cannot be written as a result; give a file such as vispr.json")
    return target
