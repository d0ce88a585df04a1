"""A profile's models by role, "inspect", "instruct" and "edit": which weights, what runs them, and where."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from typing import Any

from u2s_datasets.errors import SetupError
from u2s_datasets.parts import Backend, Editor, catalog
from u2s_datasets.parts.weights import WEIGHTS, pinned
from u2s_datasets.stages.recipes import Recipe

Backends = str | Mapping[str, str] | None
"""What runs the language models: one name for all roles, or a name per role."""

_ENGINES = {"inspect": {"gpu_memory_utilization": 0.4}, "instruct": {"gpu_memory_utilization": 0.2}}
"""Shares of a GPU for vLLM's two engines, which leave the rest to the editor."""


def weights_of(
    recipe: Recipe, name: str, editor: str | Editor | None, models: Mapping[str, str], small: bool
) -> dict[str, str]:
    """Role -> weights: those of the recipe, its smaller ones, and over them what the user named.

    Raises:
        SetupError: a role that the profile has not, or no smaller models.
    """
    known("models", models, {*recipe.models, *(() if editor is None else ("edit",))}, name)
    if small and not recipe.small:
        raise SetupError(f"small=True: profile {name!r} has no smaller models; name yours with models={{...}}")
    chosen = {**recipe.models, **(recipe.small if small else {})}
    if editor is not None:
        chosen.pop("edit", None)
    return chosen | dict(models)


def editor_of(given: str | Editor, model: str | None, placed: Mapping[str, str], options: Mapping[str, Any]) -> Editor:
    """The editor of this name with these weights; where it has no field for what is placed, that is not for it."""
    if isinstance(given, Editor):
        if model is not None or options:
            raise SetupError(f"editor={type(given).__name__}(...) is made already; give it weights and options there")
        return given
    made = catalog.make("editor", given, catalog.EDITORS)
    fields = _fields(made)
    for option in options:
        if option not in fields:
            raise SetupError(f"the editor {given!r} has no option {option!r}; it has: {', '.join(sorted(fields))}")
    changes: dict[str, Any] = {key: value for key, value in placed.items() if key in fields}
    if model is not None:
        if "model" not in fields:
            raise SetupError(f"models['edit']={model!r}: the editor {given!r} has no weights to choose")
        changes |= dict(zip(("model", "revision"), pinned(model), strict=True))
    return dataclasses.replace(made, **changes | dict(options))


def backends_of(
    recipe: Recipe, chosen: Mapping[str, str], backend: Backends, placed: Mapping[str, str], name: str
) -> dict[str, Backend]:
    """Role -> what answers; one and the same part where two roles have the same model, so that it is loaded once."""
    roles = [role for role in recipe.models if role != "edit"]
    if backend and not roles:
        raise SetupError(f"backend={backend!r}: profile {name!r} has no language models; leave it out")
    by_role = dict.fromkeys(roles, backend) if isinstance(backend, str) else dict(backend or {})
    known("backend", by_role, set(roles), name)
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
    if kind == "openai":
        raise SetupError("backend='openai': give the server's address instead, such as http://127.0.0.1:8000/v1")
    weights, revision = pinned(model)
    arguments: dict[str, Any] = {"model": weights, "revision": revision}
    if "dtype" in placed:
        arguments["dtype"] = placed["dtype"]
    if kind == "vllm":
        return catalog.make("backend", kind, catalog.BACKENDS, **arguments, **_ENGINES[role], max_model_len=8192)
    if kind == "transformers" and weights in WEIGHTS and WEIGHTS[weights].remote_code:
        raise SetupError(
            f"{weights} runs in transformers only with code from the Hub: use backend='vllm' or a server's address, "
            f"or other weights, such as models={{'{role}': 'OpenGVLab/InternVL3_5-8B-HF'}}"
        )
    if "device" in placed:
        arguments["device"] = placed["device"]
    try:
        return catalog.make("backend", kind, catalog.BACKENDS, **arguments)
    except TypeError as error:
        raise SetupError(
            f"backend={kind!r} runs no weights by name ({error}); use transformers, vllm or a server's address, or "
            "give it to the steps in Python"
        ) from error


def check_placed(placed: Mapping[str, str], parts: Iterable[Any], name: str) -> None:
    """Raise `SetupError` where no part has a field for what was said of dtype or device."""
    fields = {field for part in parts for field in _fields(part)}
    for key, value in placed.items():
        if key not in fields:
            raise SetupError(f"{key}={value!r}: profile {name!r} has no models that are loaded here; leave it out")


def known(argument: str, given: Mapping[str, str], roles: set[str], name: str) -> None:
    """Raise `SetupError` for a role that the profile has not."""
    for role in given:
        if role not in roles:
            has = ", ".join(sorted(roles)) or "none"
            raise SetupError(f"{argument}: profile {name!r} has no model for the role {role!r}; its roles: {has}")


def _fields(part: Any) -> set[str]:
    return {f.name for f in dataclasses.fields(part)}
