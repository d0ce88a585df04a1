"""Profiles: named sets of steps and their models, chosen by name and never behind the user's back."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from u2s_datasets import columns
from u2s_datasets.errors import SetupError
from u2s_datasets.parts import Backend, Editor, Part, catalog, checks
from u2s_datasets.parts.docstrings import documented_by
from u2s_datasets.parts.metrics.definitions import SPECS
from u2s_datasets.parts.metrics.encoders import MetricNetwork
from u2s_datasets.parts.metrics.face_encoders import FaceEncoder
from u2s_datasets.parts.weights import WEIGHTS, gigabytes, pinned
from u2s_datasets.privacy.criteria import CriteriaLike, as_criteria
from u2s_datasets.stages.anonymize import Anonymize
from u2s_datasets.stages.base import check_parts
from u2s_datasets.stages.caption import Caption
from u2s_datasets.stages.changes import Backends, ProfileChanges
from u2s_datasets.stages.inspect import Inspect
from u2s_datasets.stages.instruct import Instruct
from u2s_datasets.stages.people import NO_IDENTITY, choose_identity, make_identity
from u2s_datasets.stages.quality_gate import Gate
from u2s_datasets.stages.row_edit import PRIORS
from u2s_datasets.stages.score import Score, make_network

_GPU_SHARES = {"inspect": 0.4, "instruct": 0.2}  # of vLLM's two engines, which leave the rest of a GPU to the editor


@dataclass(frozen=True)
class Recipe:
    """What a profile is made of.

    Args:
        name: the profile's name.
        words: what it is, in one line.
        models: role -> Hub id. The roles are "inspect" (captions too), "instruct" (merging too) and "edit".
        small: other models for some roles, for smaller GPUs.
        backend: what runs the language models unless the user names something.
        editor: a name of `catalog.EDITORS`.
        detectors: names of `catalog.DETECTORS`.
        identity: a name of `catalog.ENCODERS`: the face network behind an editor that rewrites; "none" for none.
        scores: networks that measure, as in `ProfileChanges`; the face network measures, too.
    """

    name: str
    words: str
    models: Mapping[str, str] = field(default_factory=dict)
    small: Mapping[str, str] = field(default_factory=dict)
    backend: str = "transformers"
    editor: str = "redact"
    detectors: tuple[str, ...] = ("faces", "text")
    identity: str = NO_IDENTITY
    scores: Mapping[str, str] = field(default_factory=dict)

    def needs(self) -> list[str]:
        """What it takes, in lines: weights with their licences, extras, memory, and the commands that get them."""
        if not self.models:
            return []
        models = {role: WEIGHTS[model] for role, model in self.models.items()}
        small = {role: WEIGHTS[model] for role, model in self.small.items()}
        billions = sum(w.billions for w in models.values())
        return [
            f"language models by {self.backend}, editor {self.editor}, faces compared by {self.identity}",
            *(f"{role:9}{w.model} ({w.billions} billion parameters): {w.licence}" for role, w in models.items()),
            f"identity {make_identity(self.identity).weights}",
            *(f"small: {role} by {w.model} ({w.billions} billion): {w.licence}" for role, w in small.items()),
            f"a GPU with about {gigabytes(billions)} GB: computed from {billions:.1f} billion parameters in 16 bits, "
            "a fifth more for the work; not measured",
            f"pip install 'u2s_datasets[{'models,vllm' if self.backend == 'vllm' else 'models'}]'",
            *(w.get for w in models.values()),
        ]


_RECIPES = (
    Recipe("cpu", "detectors and redaction: no download, no GPU, no account"),
    Recipe(
        "strict",
        "as cpu, and codes and whole people are hidden, with or without a face",
        detectors=("faces", "text", "codes", "people"),
    ),
    Recipe(
        "paper",
        "the paper's models: InternVL2.5, Qwen3 and FlowEdit on SD3; detectors as well, to look again",
        {
            "inspect": "OpenGVLab/InternVL2_5-8B",
            "instruct": "Qwen/Qwen3-4B-Instruct-2507",
            "edit": "stabilityai/stable-diffusion-3-medium-diffusers",
        },
        backend="vllm",
        editor="flowedit",
        identity="dlib_faces",
        scores={"clip": ""},
    ),
    Recipe(
        "permissive",
        "weights under Apache-2.0 alone: Qwen3-VL, Qwen3 and FLUX.2 klein; detectors as well, to look again",
        {
            "inspect": "Qwen/Qwen3-VL-8B-Instruct",
            "instruct": "Qwen/Qwen3-4B-Instruct-2507",
            "edit": "black-forest-labs/FLUX.2-klein-4B",
        },
        small={"inspect": "Qwen/Qwen3-VL-4B-Instruct"},
        editor="flux2-klein",
        identity="dlib_faces",
        scores={"clip": ""},
    ),
)
RECIPES = {recipe.name: recipe for recipe in _RECIPES}


@dataclass(frozen=True)
class Profile:
    """Five steps that belong together.

    Args:
        name: the profile's name, for reports.
        anonymize: the fourth step, which holds the first three.
        score: the fifth.
        gate: what withholds rows by their scores; None lets all pass.
    """

    name: str
    anonymize: Anonymize
    score: Score
    gate: Gate | None = Gate()

    @property
    def inspect(self) -> Inspect:
        """The first step."""
        return self.anonymize.inspect

    @property
    def caption(self) -> Caption:
        """The second step."""
        return self.anonymize.caption

    @property
    def instruct(self) -> Instruct:
        """The third step."""
        return self.anonymize.instruct

    def with_engine(self, engine: str, threads: int = 1) -> Profile:
        """The same profile with its detectors on another inference engine."""
        anonymize = _with_engine(self.anonymize, engine, threads)
        return dataclasses.replace(self, anonymize=anonymize, score=_with_engine(self.score, engine, threads))


@documented_by(ProfileChanges)
def profile(
    name: str = "cpu",
    *,
    detectors: Sequence[str] | None = None,
    detector_options: Mapping[str, Mapping[str, Any]] | None = None,
    editor: str | Editor | None = None,
    editor_options: Mapping[str, Any] | None = None,
    identity: str | FaceEncoder | None = None,
    backend: Backends = None,
    models: Mapping[str, str] | None = None,
    small: bool = False,
    dtype: str | None = None,
    device: str | None = None,
    criteria: CriteriaLike | None = None,
    threshold: float | None = None,
    method: str | None = None,
    groups: tuple[str, ...] | str | None = None,
    scores: Mapping[str, str | MetricNetwork] | None = None,
    above: Mapping[str, float] | None = None,
    at_most: Mapping[str, float] | None = None,
    **options: Any,
) -> Profile:
    """The profile of this name, ready to work here.

    Args:
        name: a key of `RECIPES`: "cpu", "strict", "paper" or "permissive".
        {options}
        options: arguments of `Anonymize`, such as `seed=7`.

    Raises:
        SetupError: a name or value that cannot work, or what is not installed or not downloaded: everything that is
            missing at once, each with the command that gets it.
    """
    given = {key: value for key, value in locals().items() if key not in ("name", "options")}
    made = build(name, **given, **options)
    check_parts(made.anonymize, made.score)
    return made


def build(name: str = "cpu", **options: Any) -> Profile:
    """The profile of this name, whether or not it can work here; needs no package beyond the base.

    Args:
        name: a key of `RECIPES`.
        options: fields of `ProfileChanges`, and arguments of `Anonymize`, such as `seed=7`.

    Raises:
        SetupError: a value that makes no sense, or that nothing in this profile would heed.
    """
    if not isinstance(name, str) or name not in RECIPES:
        raise SetupError(f"unknown profile {name!r}; expected one of: {', '.join(RECIPES)}")
    recipe, own = RECIPES[name], _field_names(ProfileChanges)
    chosen = ProfileChanges(**{key: value for key, value in options.items() if key in own})
    settings = {key: value for key, value in options.items() if key not in own}
    weights = _choose_weights(recipe, chosen)
    backends = _make_backends(recipe, chosen, weights)
    given, placement = recipe.editor if chosen.editor is None else chosen.editor, chosen.given("dtype", "device")
    editor = make_editor(given, chosen.editor_options or {}, weights.get("edit"), placement)
    loaded = [*backends.values(), *(() if editor is given else (editor,))]
    for key, value in placement.items():
        if not any(key in _field_names(part) for part in loaded):
            raise SetupError(f"{key}={value!r}: profile {name!r} has no models that are loaded here; leave it out")
    inspect, caption, instruct = _make_text_steps(recipe, chosen, backends, settings.get("seed", 0))
    identity = choose_identity(recipe.identity, chosen.identity, editor)
    steps: dict[str, Any] = {"inspect": inspect, "caption": caption, "instruct": instruct}
    anonymize = Anonymize(editor=editor, identity=identity, **steps, **settings)
    if editor.redacts and anonymize.prior in PRIORS and anonymize.prior != columns.EDIT_CAPTION:
        raise SetupError(f"prior={anonymize.prior!r}: the editor {type(editor).__name__} reads no text; leave it out")
    usual: dict[str, Any] = {**recipe.scores, **({} if identity is None else {"faces": identity})}
    networks: dict[str, Any] = _make_networks(usual if chosen.scores is None else chosen.scores)
    looks_on = anonymize.inspect if anonymize.verify else None
    score = Score(inspect=looks_on, image_column=anonymize.image_column, **networks)
    return Profile(name, anonymize, score, _make_gate(chosen, score))


def make_editor(
    given: str | Editor,
    options: Mapping[str, Any],
    model: str | None = None,
    placement: Mapping[str, str] | None = None,
) -> Editor:
    """An editor by name, or as it is.

    Args:
        given: a name of `catalog.EDITORS`, or an editor.
        options: arguments of a named editor.
        model: weights for it, as "id@commit", a Hub id or a folder; None for its own.
        placement: a `dtype` or `device` for it, as far as it has such a field.

    Raises:
        SetupError: an unknown option, or weights or options for an editor that takes none.
    """
    if isinstance(given, Editor):
        if model is not None or options:
            raise SetupError(f"editor={type(given).__name__}(...) is made already; give it weights and options there")
        return given
    editor = catalog.make("editor", given, catalog.EDITORS)
    fields = _field_names(editor)
    for option in options:
        if option not in fields:
            raise SetupError(f"the editor {given!r} has no option {option!r}; it has: {', '.join(sorted(fields))}")
    changes: dict[str, Any] = {key: value for key, value in (placement or {}).items() if key in fields}
    if model is not None:
        if "model" not in fields:
            raise SetupError(f"models['edit']={model!r}: the editor {given!r} has no weights to choose")
        changes["model"], changes["revision"] = pinned(model)
    return dataclasses.replace(editor, **changes | dict(options))


def _make_networks(given: Mapping[str, str | MetricNetwork]) -> dict[str, MetricNetwork]:
    """Field of `Score` -> its part. Raises `SetupError` for anything but such a mapping."""
    if not isinstance(given, Mapping):
        raise SetupError(f"invalid scores={given!r}; expected networks with their weights, such as {{'clip': ''}}")
    return {field: make_network(field, named) for field, named in given.items()}


def _make_gate(chosen: ProfileChanges, score: Score) -> Gate:
    """The limits that were given, and by default those whose scores are measured: a limit that nothing measures would
    only seem to guard. What then could not be measured fails.

    Raises:
        SetupError: nothing measures the score of a limit that was given.
    """
    gate = Gate(strict=True, **chosen.given("above", "at_most"))
    gate.check()
    limits: dict[str, Any] = {}
    for side in ("above", "at_most"):
        lacking = [name for name, _ in getattr(gate, side) if not score.measures(name)]
        if lacking and getattr(chosen, side) is not None:
            part = SPECS[lacking[0]].part
            raise SetupError(
                f"{side}={{{lacking[0]!r}: …}}: nothing here measures it; give scores={{{part!r}: ''}} (--score {part})"
            )
        limits[side] = [(name, limit) for name, limit in getattr(gate, side) if name not in lacking]
    return dataclasses.replace(gate, **limits)


def _choose_weights(recipe: Recipe, chosen: ProfileChanges) -> dict[str, str]:
    """Role -> weights: those of the recipe, its smaller ones, and over them what the user named."""
    models = chosen.models or {}
    _check_roles("models", models, {*recipe.models, *(() if chosen.editor is None else ("edit",))}, recipe.name)
    if chosen.small and not recipe.small:
        raise SetupError(f"small=True: profile {recipe.name!r} has no smaller models; name yours with models={{...}}")
    weights = {**recipe.models, **(recipe.small if chosen.small else {})}
    if chosen.editor is not None:
        weights.pop("edit", None)
    return weights | dict(models)


def _make_backends(recipe: Recipe, chosen: ProfileChanges, weights: Mapping[str, str]) -> dict[str, Backend]:
    """Role -> backend; one and the same part for roles with the same model, so that it is loaded once."""
    given, roles = chosen.backend, [role for role in recipe.models if role != "edit"]
    if given and not roles:
        raise SetupError(f"backend={given!r}: profile {recipe.name!r} has no language models; leave it out")
    by_role = dict.fromkeys(roles, given) if isinstance(given, str) else dict(given or {})
    _check_roles("backend", by_role, set(roles), recipe.name)
    made: dict[tuple[str, str], Backend] = {}
    backends = {}
    for role in roles:
        key = by_role.get(role) or recipe.backend, weights[role]
        if key not in made:
            made[key] = _make_backend(*key, role, chosen.given("dtype", "device"))
        backends[role] = made[key]
    return backends


def _make_backend(kind: str, model: str, role: str, placement: Mapping[str, str]) -> Backend:
    if "://" in kind:
        return catalog.make("backend", "openai", catalog.BACKENDS, model=model, base_url=kind)
    if kind == "openai":
        raise SetupError("backend='openai': give the server's address instead, such as http://127.0.0.1:8000/v1")
    weights, revision = pinned(model)
    arguments: dict[str, Any] = {"model": weights, "revision": revision, **placement}
    if kind == "vllm":
        arguments.pop("device", None)  # vLLM chooses the GPU by itself
        arguments |= {"gpu_memory_utilization": _GPU_SHARES[role], "max_model_len": 8192}
    elif kind == "transformers" and weights in WEIGHTS and WEIGHTS[weights].remote_code:
        raise SetupError(
            f"{weights} runs in transformers only with code from the Hub: use backend='vllm' or a server's address, "
            f"or other weights, such as models={{'{role}': 'OpenGVLab/InternVL3_5-8B-HF'}}"
        )
    try:
        return catalog.make("backend", kind, catalog.BACKENDS, **arguments)
    except TypeError as error:
        raise SetupError(
            f"backend={kind!r} runs no weights by name ({error}); use transformers, vllm or a server's address, or "
            "give it to the steps in Python"
        ) from error


def _make_text_steps(
    recipe: Recipe, chosen: ProfileChanges, backends: Mapping[str, Backend], seed: int
) -> tuple[Inspect, Caption, Instruct]:
    for key, value in chosen.given("criteria", "threshold", "method", "groups").items():
        if not backends:
            raise SetupError(f"{key}={value!r}: profile {recipe.name!r} has no language models; leave it out")
    if chosen.method == "generate" and chosen.threshold is not None:
        raise SetupError("threshold is for method='choose'; what is written with 'generate' has no score to compare")
    shared: dict[str, Any] = {} if chosen.criteria is None else {"criteria": as_criteria(chosen.criteria)}
    names = recipe.detectors if chosen.detectors is None else checks.check_names("detectors", chosen.detectors)
    detectors = catalog.make_detectors(names, chosen.detector_options or {})
    seeing, writing = backends.get("inspect"), backends.get("instruct")
    return (
        Inspect(backend=seeing, detectors=detectors, **shared, **chosen.given("threshold", "method")),
        Caption(backend=seeing, **shared),
        Instruct(backend=writing, seed=seed, **shared, **chosen.given("groups")),
    )


def _check_roles(argument: str, given: Iterable[str], roles: set[str], name: str) -> None:
    for role in given:
        if role not in roles:
            has = ", ".join(sorted(roles)) or "none"
            raise SetupError(f"{argument}: profile {name!r} has no model for the role {role!r}; its roles: {has}")


def _field_names(part: Any) -> set[str]:
    return {f.name for f in dataclasses.fields(part)}


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
