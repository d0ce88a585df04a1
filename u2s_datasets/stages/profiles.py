"""Profiles: named sets of steps, chosen by name and never behind the user's back."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from u2s_datasets import columns
from u2s_datasets.errors import SetupError
from u2s_datasets.parts import Editor, Part, catalog, checks
from u2s_datasets.privacy import criteria as criteria_
from u2s_datasets.stages import model_roles
from u2s_datasets.stages.anonymize import Anonymize
from u2s_datasets.stages.caption import Caption
from u2s_datasets.stages.inspect import Inspect
from u2s_datasets.stages.instruct import Instruct
from u2s_datasets.stages.model_roles import Backends
from u2s_datasets.stages.plan import PRIORS
from u2s_datasets.stages.quality_gate import Gate
from u2s_datasets.stages.recipes import RECIPES
from u2s_datasets.stages.score import Score

NAMES = {name: recipe.words for name, recipe in RECIPES.items()}


@dataclass(frozen=True)
class Profile:
    """Five steps that belong together.

    Args:
        name: the profile's name, for reports.
        anonymize: the fourth arrow, which holds the first three.
        score: the fifth.
        gate: what withholds rows by their scores; none lets all pass.
    """

    name: str
    anonymize: Anonymize
    score: Score
    gate: Gate | None = Gate()

    @property
    def inspect(self) -> Inspect:
        """The first arrow."""
        return self.anonymize.inspect

    @property
    def caption(self) -> Caption:
        """The second arrow."""
        return self.anonymize.caption

    @property
    def instruct(self) -> Instruct:
        """The third arrow."""
        return self.anonymize.instruct

    def with_engine(self, engine: str, threads: int = 1) -> Profile:
        """The same profile with its detectors on another inference engine."""
        anonymize = _with_engine(self.anonymize, engine, threads)
        return dataclasses.replace(self, anonymize=anonymize, score=_with_engine(self.score, engine, threads))


def profile(name: str = "cpu", **arguments: Any) -> Profile:
    """The profile of this name, ready to work here.

    Args:
        name: a key of `NAMES`.
        arguments: those of `build`.

    Raises:
        SetupError: a name or value that cannot work, or what is not installed or not downloaded: everything that is
            missing at once, each with the command that gets it.
    """
    made = build(name, **arguments)
    made.anonymize.check()
    return made


def build(
    name: str = "cpu",
    *,
    detectors: Sequence[str] | None = None,
    editor: str | Editor | None = None,
    editor_options: Mapping[str, Any] | None = None,
    backend: Backends = None,
    models: Mapping[str, str] | None = None,
    small: bool = False,
    dtype: str | None = None,
    device: str | None = None,
    criteria: criteria_.Given | None = None,
    threshold: float | None = None,
    method: str | None = None,
    groups: tuple[str, ...] | str | None = None,
    **options: Any,
) -> Profile:
    """The profile of this name, whether or not it can work here; needs no package beyond the base.

    Args:
        name: a key of `NAMES`.
        detectors: names of `catalog.DETECTORS` instead of the profile's own. Models flag an image too; detectors give
            boxes, and look again at what was edited (law 4).
        editor: a name of `catalog.EDITORS` instead of the profile's own, with its own weights; or an editor as it is.
        editor_options: arguments of the editor, such as {"num_inference_steps": 28}.
        backend: "transformers", "vllm" or the address of an OpenAI-compatible server ("http://127.0.0.1:8000/v1"),
            for both language models or by role, as in {"inspect": "vllm", "instruct": "http://…"}.
        models: weights by role instead of the profile's own: "inspect", "instruct" and "edit", each a folder, a Hub
            id, "id@commit", or a server's name for it.
        small: the profile's smaller models.
        dtype: "float32", "bfloat16" or "float16" for every model.
        device: such as "cuda:1" for every model in this process.
        criteria: what the language models count as private: criteria, or what `load_criteria` takes.
        threshold, method: of `Inspect`, for the model that judges.
        groups: of `Instruct`, for the model that writes.
        options: arguments of `Anonymize`, such as `seed=7`.

    Raises:
        SetupError: a value that cannot be meant, or that nothing in this profile would heed.
    """
    if not isinstance(name, str) or name not in RECIPES:
        raise SetupError(f"unknown profile {name!r}; use one of: {', '.join(NAMES)}")
    recipe = RECIPES[name]
    chosen = model_roles.weights_of(recipe, name, editor, models or {}, small)
    placed = {key: value for key, value in {"dtype": dtype, "device": device}.items() if value is not None}
    backends = model_roles.backends_of(recipe, chosen, backend, placed, name)
    asked = {"criteria": criteria, "threshold": threshold, "method": method, "groups": groups}
    to_inspect, to_caption, to_instruct = _told(name, bool(backends), asked, method)
    if detectors is not None:
        to_inspect["detectors"] = tuple(
            catalog.make("detector", d, catalog.DETECTORS) for d in checks.check_names("detectors", detectors)
        )
    inspect = Inspect(backend=backends.get("inspect"), **to_inspect)
    edits = model_roles.editor_of(
        recipe.editor if editor is None else editor, chosen.get("edit"), placed, editor_options or {}
    )
    model_roles.check_placed(placed, [*backends.values(), *(() if edits is editor else (edits,))], name)
    anonymize = Anonymize(
        editor=edits,
        inspect=inspect,
        caption=Caption(backend=backends.get("inspect"), **to_caption),
        instruct=Instruct(backend=backends.get("instruct"), seed=options.get("seed", 0), **to_instruct),
        **options,
    )
    if edits.redacts and anonymize.prior in PRIORS and anonymize.prior != columns.EDIT_CAPTION:
        raise SetupError(f"prior={anonymize.prior!r}: the editor {type(edits).__name__} reads no text; leave it out")
    score = Score(inspect=inspect if anonymize.verify else None, image_column=anonymize.image_column)
    return Profile(name, anonymize, score)


def _told(
    name: str, judged: bool, given: Mapping[str, Any], method: str | None
) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
    """What `Inspect`, `Caption` and `Instruct` are told of criteria, threshold, method and groups."""
    said = {key: value for key, value in given.items() if value is not None}
    for key, value in said.items():
        if not judged:
            raise SetupError(f"{key}={value!r}: profile {name!r} has no language models; leave it out")
    if method == "generate" and "threshold" in said:
        raise SetupError("threshold is for method='choose'; what is written with 'generate' has no score to compare")
    if "criteria" in said:
        said["criteria"] = criteria_.as_criteria(said["criteria"])
    steps = (("criteria", "threshold", "method"), ("criteria",), ("criteria", "groups"))
    inspect, caption, instruct = ({key: said[key] for key in keys if key in said} for keys in steps)
    return inspect, caption, instruct


def _with_engine(part: Any, engine: str, threads: int) -> Any:
    """A copy of a part in which every part with an `engine` has this one."""
    changes: dict[str, Any] = {}
    for f in dataclasses.fields(part):
        value = getattr(part, f.name)
        if isinstance(value, Part):
            changes[f.name] = _with_engine(value, engine, threads)
        elif isinstance(value, tuple) and any(isinstance(v, Part) for v in value):
            changes[f.name] = tuple(_with_engine(v, engine, threads) for v in value)
        elif f.name == "engine":
            changes |= {"engine": engine, "threads": threads}
    return dataclasses.replace(part, **changes) if changes else part
