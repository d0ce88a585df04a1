"""Profiles: named sets of steps, chosen by name and never behind the user's back."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from u2s_datasets import catalog
from u2s_datasets.errors import SetupError
from u2s_datasets.parts import Backend, Editor, Part
from u2s_datasets.recipes import RECIPES, Recipe
from u2s_datasets.stages.anonymize import Anonymize
from u2s_datasets.stages.caption import Caption
from u2s_datasets.stages.gate import Gate
from u2s_datasets.stages.inspect import Inspect
from u2s_datasets.stages.instruct import Instruct
from u2s_datasets.stages.score import Score
from u2s_datasets.weights import WEIGHTS, pinned

Backends = str | Mapping[str, str] | None
"""What runs the language models: one name for all roles, or a name per role."""


NAMES = {name: recipe.words for name, recipe in RECIPES.items()}

_ENGINES = {"inspect": {"gpu_memory_utilization": 0.4}, "instruct": {"gpu_memory_utilization": 0.2}}
"""Shares of a GPU for vLLM's two engines, which leave the rest to the editor."""


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
    editor: str | None = None,
    editor_options: Mapping[str, Any] | None = None,
    backend: Backends = None,
    models: Mapping[str, str] | None = None,
    small: bool = False,
    dtype: str | None = None,
    device: str | None = None,
    **options: Any,
) -> Profile:
    """The profile of this name, whether or not it can work here; needs no package beyond the base.

    Args:
        name: a key of `NAMES`.
        detectors: names of `catalog.DETECTORS` instead of the profile's own. Models flag an image too; detectors give
            boxes, and look again at what was edited (law 4).
        editor: a name of `catalog.EDITORS` instead of the profile's own, with its own weights.
        editor_options: arguments of the editor, such as {"num_inference_steps": 28}.
        backend: "transformers", "vllm" or the address of an OpenAI-compatible server ("http://127.0.0.1:8000/v1"),
            for both language models or by role, as in {"inspect": "vllm", "instruct": "http://…"}.
        models: weights by role instead of the profile's own: "inspect", "instruct" and "edit", each a folder, a Hub
            id, "id@commit", or a server's name for it.
        small: the profile's smaller models.
        dtype: "float32", "bfloat16" or "float16" for every model.
        device: such as "cuda:1" for every model in this process.
        options: arguments of `Anonymize`, such as `seed=7`.
    """
    if name not in RECIPES:
        raise SetupError(f"unknown profile {name!r}; use one of: {', '.join(NAMES)}")
    recipe, given = RECIPES[name], dict(models or {})
    own = {} if editor is None else {"edit"}
    _known("models", given, {*recipe.models, *own}, name)
    if small and not recipe.small:
        raise SetupError(f"small=True: profile {name!r} has no smaller models; name yours with models={{...}}")
    chosen = {**recipe.models, **(recipe.small if small else {})}
    if editor is not None:
        chosen.pop("edit", None)
    chosen |= given
    placed = {key: value for key, value in {"dtype": dtype, "device": device}.items() if value is not None}
    backends = _backends(recipe, chosen, backend, placed, name)
    inspect = Inspect(backend=backends.get("inspect"))
    if detectors is not None:
        found = tuple(catalog.make("detector", d, catalog.DETECTORS) for d in detectors)
        inspect = dataclasses.replace(inspect, detectors=found)
    options.setdefault("editor", _editor(editor or recipe.editor, chosen.get("edit"), placed, editor_options or {}))
    anonymize = Anonymize(
        inspect=inspect,
        caption=Caption(backend=backends.get("inspect")),
        instruct=Instruct(backend=backends.get("instruct"), seed=options.get("seed", 0)),
        **options,
    )
    score = Score(inspect=inspect if anonymize.verify else None, image_column=anonymize.image_column)
    return Profile(name, anonymize, score)


def _editor(name: str, model: str | None, placed: Mapping[str, str], options: Mapping[str, Any]) -> Editor:
    """The editor of this name with these weights; where it has no field for what is placed, that is not for it."""
    made = catalog.make("editor", name, catalog.EDITORS)
    fields = {f.name for f in dataclasses.fields(made)}
    for option in options:
        if option not in fields:
            raise SetupError(f"the editor {name!r} has no option {option!r}; it has: {', '.join(sorted(fields))}")
    changes: dict[str, Any] = {key: value for key, value in placed.items() if key in fields}
    if model is not None:
        if "model" not in fields:
            raise SetupError(f"models['edit']={model!r}: the editor {name!r} has no weights to choose")
        changes |= dict(zip(("model", "revision"), pinned(model), strict=True))
    return dataclasses.replace(made, **changes | dict(options))


def _backends(
    recipe: Recipe, chosen: Mapping[str, str], backend: Backends, placed: Mapping[str, str], name: str
) -> dict[str, Backend]:
    """Role -> what answers; one and the same part where two roles have the same model, so that it is loaded once."""
    roles = [role for role in recipe.models if role != "edit"]
    if backend and not roles:
        raise SetupError(f"backend={backend!r}: profile {name!r} has no language models; leave it out")
    by_role = dict.fromkeys(roles, backend) if isinstance(backend, str) else dict(backend or {})
    _known("backend", by_role, set(roles), name)
    made: dict[Any, Backend] = {}
    answers = {}
    for role in roles:
        key = by_role.get(role) or recipe.backend, chosen[role]
        if key not in made:
            made[key] = _backend(*key, role, placed)
        answers[role] = made[key]
    return answers


def _backend(kind: str, model: str, role: str, placed: Mapping[str, str]) -> Backend:
    if "://" in kind:
        return catalog.make("backend", "openai", catalog.BACKENDS, model=model, base_url=kind)
    weights, revision = pinned(model)
    arguments: dict[str, Any] = {"model": weights, "revision": revision}
    if "dtype" in placed:
        arguments["dtype"] = placed["dtype"]
    if kind == "vllm":
        return catalog.make("backend", kind, catalog.BACKENDS, **arguments, **_ENGINES[role], max_model_len=8192)
    if weights in WEIGHTS and WEIGHTS[weights].remote_code:
        raise SetupError(
            f"{weights} runs in transformers only with code from the Hub: use backend='vllm' or a server's address, "
            f"or other weights, such as models={{'{role}': 'OpenGVLab/InternVL3_5-8B-HF'}}"
        )
    if "device" in placed:
        arguments["device"] = placed["device"]
    return catalog.make("backend", kind, catalog.BACKENDS, **arguments)


def _known(argument: str, given: Mapping[str, str], roles: set[str], name: str) -> None:
    for role in given:
        if role not in roles:
            has = ", ".join(sorted(roles)) or "none"
            raise SetupError(f"{argument}: profile {name!r} has no model for the role {role!r}; its roles: {has}")


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
