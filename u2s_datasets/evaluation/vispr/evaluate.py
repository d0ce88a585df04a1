"""How reliable is `inspect`? Its flags against VISPR's labels (paper, section 4.4, table 1 and supplement S2.3).

Five questions are asked of every image of a split, each judged over all of them. *All attributes*: the step as it is,
by its own criteria; an image is private unless it is labelled `a0_safe`. Then the paper's four groups (`vispr.GROUPS`):
the step asks for that group alone, by a prompt of its own; positives are the images with one of the group's attributes,
negatives all the others, whatever else is private in them.

An image that cannot be read or judged is flagged with a score of 1, as everywhere (law 1), and counted as failed.
A group that nothing in the profile looks for is not measured.
"""

from __future__ import annotations

import copy
import dataclasses
import importlib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from u2s_datasets import columns
from u2s_datasets.errors import SetupError
from u2s_datasets.evaluation.vispr.answers import Answer, AnswerFile, Answers
from u2s_datasets.evaluation.vispr.dataset import Example, read_split
from u2s_datasets.evaluation.vispr.result import Measured, VisprResult, free
from u2s_datasets.parts import catalog
from u2s_datasets.parts.metrics import flags
from u2s_datasets.privacy import criteria
from u2s_datasets.privacy import vispr_attributes as vispr
from u2s_datasets.stages import profiles
from u2s_datasets.stages.batch import Row
from u2s_datasets.stages.inspect import Inspect
from u2s_datasets.stages.profiles import Backends, Profile

ALL = "all"
RESAMPLES = 2_000


@dataclass(frozen=True)
class _Question:
    """One question and who answers it; `step` is none where nobody does."""

    name: str
    title: str
    step: Inspect | None
    ids: tuple[str, ...] = ()
    categories: tuple[str, ...] | None = None

    def truth(self, example: Example) -> bool:
        return example.has(self.ids) if self.ids else example.unsafe

    def twin(self, row: Row) -> Row:
        """The row with its pixels and what this question may know of what was found in them."""
        twin = copy.copy(row)
        twin.fields = {}
        if self.categories is not None and row.found is not None:
            twin.found = [d for d in row.found if d.category in self.categories]
        return twin


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
        root: the dataset's folder, see `vispr_dataset`.
        split: "train", "val" or "test"; the paper uses "test".
        profile: a profile, its name, or "package.module:NAME" of somebody's own.
        detectors: names of `catalog.DETECTORS` instead of the profile's; () for its model alone.
        backend, models: what judges, instead of the profile's, which is then a name; see `ProfileOptions`.
        criteria: for `load_criteria`, instead of the profile's; the groups keep their own.
        threshold: of the model's score, in (0, 1], instead of the profile's.
        method: "choose" or "generate", see `Inspect`, instead of the profile's.
        limit: at most so many images, the first ones.
        batch_size: images that are judged together; it changes no answer.
        seed: of the bootstrap.
        out: where to write `to_json()`. The answers are kept beside it, in a private file whose name ends in
            ".answers.jsonl": a call that was killed goes on there, and one with more images asks only for those.
        progress: show a progress bar on standard error.

    Raises:
        SetupError: before the first image, naming the value and the remedy.
    """
    for name, value in (("limit", limit), ("batch_size", batch_size)):
        if value is not None and value < 1:
            raise SetupError(f"{name}={value} is below 1; give a whole number of 1 or more")
    if seed < 0:
        raise SetupError(f"seed={seed} is below 0; give a whole number of 0 or more")
    chosen = _profile(profile, backend, models)
    changes = {"criteria": criteria, "threshold": threshold, "method": method}
    questions = _questions(_inspect(chosen, detectors, {k: v for k, v in changes.items() if v is not None}))
    target = None if out is None else free(Path(out).expanduser())
    examples = read_split(root, split, limit)
    with AnswerFile(target and target.with_suffix(".answers.jsonl"), _binding(questions)) as answers:
        _work(questions, examples, answers, batch_size, progress)
        known = [answers.get(example) or {} for example in examples]
        measured = tuple(_measure(question, examples, known, seed) for question in questions)
        facts = _facts(questions, seed)
        result = VisprResult(chosen.name, split.removesuffix("2017"), len(examples), measured, facts)
        if target is not None:
            result.write(target)
    return result


def _profile(given: str | Profile, backend: Backends, models: Mapping[str, str] | None) -> Profile:
    module, colon, name = ("", ":", "") if isinstance(given, Profile) else given.partition(":")
    if colon and (backend or models):
        raise SetupError("backend and models are for a profile that is named; this one has its own, leave them out")
    if isinstance(given, Profile):
        return given
    if not colon:
        by_role = {*(models or ()), *(backend if isinstance(backend, Mapping) else ())}
        for role in sorted(by_role - {"inspect"}):
            raise SetupError(f"the role {role!r} is not evaluated; leave it out, only 'inspect' counts here")
        # Of its parts only `inspect` is used, and checked below.
        return profiles.build(given, backend=backend, models=models)
    try:
        found = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError) as error:
        raise SetupError(f"profile {given!r} cannot be imported: {error}; check the module and the name") from error
    if not isinstance(found, Profile):
        raise SetupError(f"profile {given!r} is {type(found).__name__}, no u2s_datasets.Profile; give one that is")
    return found


def _inspect(chosen: Profile, detectors: Sequence[str] | None, told: Mapping[str, Any]) -> Inspect:
    changes = dict(told)
    for name in told:
        if chosen.inspect.backend is None:
            raise SetupError(f"{name} is for a model, and the profile {chosen.name!r} has none; leave it out")
    if "criteria" in told:
        changes["criteria"] = criteria.load_criteria(told["criteria"])
    if detectors is not None:
        changes["detectors"] = tuple(catalog.make("detector", d, catalog.DETECTORS) for d in detectors)
    inspect = dataclasses.replace(chosen.inspect, **changes)
    if "threshold" in told and inspect.method == "generate":
        raise SetupError("threshold is for method='choose'; what is written with 'generate' has no score to compare")
    inspect.check()
    return inspect


def _questions(inspect: Inspect) -> list[_Question]:
    groups = [
        _Question(name, group.title, _of_group(inspect, group), group.ids, group.detected)
        for name, group in vispr.GROUPS.items()
    ]
    return [_Question(ALL, "All attributes", inspect), *groups]


def _of_group(inspect: Inspect, group: vispr.Group) -> Inspect | None:
    detectors = tuple(d for d in inspect.detectors if not set(d.category_names).isdisjoint(group.detected))
    if not detectors and inspect.backend is None:
        return None
    return dataclasses.replace(inspect, detectors=detectors, criteria=(group.criterion,))


def _binding(questions: Sequence[_Question]) -> dict[str, Any]:
    """What shapes the answers: the steps with their parts, code, prompts, criteria and weights."""
    from datasets.fingerprint import Hasher

    return {"vispr": 1, "questions": {q.name: q.step and Hasher.hash(q.step) for q in questions}}


def _work(
    questions: Sequence[_Question], examples: Sequence[Example], answers: AnswerFile, batch_size: int, progress: bool
) -> None:
    from tqdm import tqdm

    todo = [example for example in examples if answers.get(example) is None]
    ready = len(examples) - len(todo)
    with tqdm(total=len(examples), initial=ready, unit="img", disable=not progress, smoothing=0.05) as bar:
        for start in range(0, len(todo), batch_size):
            chunk = todo[start : start + batch_size]
            answers.add(chunk, _ask(questions, chunk))
            bar.update(len(chunk))


def _ask(questions: Sequence[_Question], examples: Sequence[Example]) -> list[Answers]:
    rows = [Row(str(example.path), {}) for example in examples]
    given: list[Answers] = [{} for _ in rows]
    whole = questions[0].step
    assert whole is not None
    whole.detect(rows)  # once for all questions
    for question in questions:
        if question.step is not None:
            twins = [question.twin(row) for row in rows]
            question.step.decide(twins)
            for answers, twin in zip(given, twins, strict=True):
                answers[question.name] = _answer(twin)
    return given


def _answer(row: Row) -> Answer:
    code = None
    if row.failure is not None:
        code = row.failure.code if row.failure.code in columns.REASON_CODES else "error"
    return Answer(bool(row.fields[columns.PRIVACY_FLAG]), float(row.fields[columns.PRIVACY_SCORE]), code)


def _measure(question: _Question, examples: Sequence[Example], known: Sequence[Answers], seed: int) -> Measured:
    if question.step is None:
        why = "the profile has no model, and none of its detectors looks for this"
        return Measured(question.name, question.title, not_measured=why)
    answers = [a[question.name] for a in known]
    truth = np.array([question.truth(example) for example in examples])
    counts = flags.count(truth, np.array([a.flag for a in answers]))
    return Measured(
        question.name,
        question.title,
        judged_by=_judges(question.step),
        counts=counts,
        failed=dict(sorted(Counter(a.failed for a in answers if a.failed).items())),
        metrics=flags.bootstrap(counts, RESAMPLES, seed=seed),
        curve=flags.precision_recall_curve(truth, np.array([a.score for a in answers])),
    )


def _judges(step: Inspect) -> tuple[str, ...]:
    model = () if step.backend is None else ("model",)
    return (*model, *(f"detector {type(d).__name__}" for d in step.detectors))


def _facts(questions: Sequence[_Question], seed: int) -> dict[str, Any]:
    step = questions[0].step
    assert step is not None
    inspected, left = step.scope()
    return {
        "inspect": step.config(),
        "inspected_criteria": inspected,
        "not_inspected": left,
        "bootstrap": {"resamples": RESAMPLES, "level": 0.95, "seed": seed},
    }
