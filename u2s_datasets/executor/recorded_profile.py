"""The steps of a finished run, made again from what its private manifest holds of them.

The manifest holds the text of both steps (`repr`), every setting included. What is made from it are classes of the
catalog and the detectors that the caller names, with plain values, and nothing else: a folder may come from anyone.
"""

from __future__ import annotations

import ast
import dataclasses
import importlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from u2s_datasets.errors import SetupError
from u2s_datasets.executor.pipeline import parts_of
from u2s_datasets.parts import Detector, Editor, catalog
from u2s_datasets.review import decisions as d
from u2s_datasets.stages.anonymize import Anonymize
from u2s_datasets.stages.caption import Caption
from u2s_datasets.stages.inspect import Inspect
from u2s_datasets.stages.instruct import Instruct
from u2s_datasets.stages.profiles import Profile, make_editor
from u2s_datasets.stages.quality_gate import Gate
from u2s_datasets.stages.score import Score

REMEDY = "pass a profile of your own, as chosen=…"
_STEPS = (Anonymize, Caption, Inspect, Instruct, Score)
_NEVER = {"api_key_env", "base_url", "command", "folder", "stronger", "trust_remote_code"}
"""What a file must not choose: what runs a program or a stranger's code, and which server is sent the images."""
_OPTIONS = ("detectors", "editor", "editor_options", "seed")


def run_profile(folder: Path, **options: Any) -> Profile:
    """The steps of a run with all their settings, and with another editor or seed where one is asked for.

    Args:
        folder: of the run.
        options: `detectors`, the run's own by name, which those without a short name need; `editor`,
            `editor_options` and `seed`, as in `ProfileOptions`.

    Raises:
        SetupError: another option, or a setting that cannot be had again, which is named.
    """
    for name in set(options) - set(_OPTIONS):
        raise SetupError(f"{name}={options[name]!r}: a re-edit keeps the run's own settings; {REMEDY}")
    known = d.read_manifest(folder)["configuration"]
    editor = _editor(options.get("editor"), options.get("editor_options"))
    anonymize, score = _steps(known, _named(options.get("detectors")), editor)
    if editor is not None:
        anonymize = dataclasses.replace(anonymize, editor=editor)
    if (seed := options.get("seed")) is not None:
        instruct = dataclasses.replace(anonymize.instruct, seed=seed)
        anonymize = dataclasses.replace(anonymize, seed=seed, instruct=instruct)
    return Profile(known["profile"], anonymize, score, _gate(known["gate"]))


def _editor(given: str | Editor | None, options: Mapping[str, Any] | None) -> Editor | None:
    if given is None and options:
        raise SetupError(f"editor_options={dict(options)!r} are for the editor that is named with them; say editor=…")
    return None if given is None else make_editor(given, options or {})


def _named(names: Sequence[str] | None) -> list[Detector] | None:
    return None if names is None else [catalog.make("detector", name, catalog.DETECTORS) for name in names]


def _steps(known: Mapping[str, Any], named: list[Detector] | None, editor: Editor | None) -> tuple[Anonymize, Score]:
    """Both steps of a manifest; the editor is not looked at where another takes its place."""
    left_out = "" if editor is None else "editor"
    recorded = [_without(_parsed(text), left_out) for text in known["parts"]]
    made: dict[str, Any] = {}
    anonymize, score = (_made(tree, "steps", named or (), made) for tree in recorded)
    if not (isinstance(anonymize, Anonymize) and isinstance(score, Score)):
        raise SetupError(f"the run's manifest holds other steps than Anonymize and Score; {REMEDY}")
    for tree, step in zip(recorded, (anonymize, score), strict=True):
        _check_same(tree, _without(_parsed(repr(step)), left_out))
    there = [type(detector) for detector in anonymize.inspect.detectors]
    if named is not None and [type(detector) for detector in named] != there:
        words = ", ".join(cls.__name__ for cls in there)
        raise SetupError(f"the run's detectors were {words}; say detectors=… of these alone, or {REMEDY}")
    for part in [p for step in (anonymize, score) for p in parts_of(step)]:
        digest = part.__getstate__().get("weights")
        if digest and digest not in known["weights"] and not (editor is not None and part is anonymize.editor):
            raise SetupError(f"the weights of {type(part).__name__} were changed since the run; {REMEDY}")
    return anonymize, score


def _parsed(text: str) -> ast.expr:
    try:
        return ast.parse(text, mode="eval").body
    except (SyntaxError, ValueError, RecursionError) as error:
        raise SetupError(f"a part of the run has no settings that can be read again: {text:.200}; {REMEDY}") from error


def _made(node: ast.expr, field: str, named: Sequence[Detector], made: dict[str, Any]) -> Any:
    """The value that a text stands for. What stands there twice is made once, so that its model is loaded once."""
    text = ast.unparse(node)
    if isinstance(node, ast.Tuple):
        return tuple(_made(item, field, named, made) for item in node.elts)
    try:
        if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Name)):
            return ast.literal_eval(node)
        if text not in made:
            given = {k.arg: k.value for k in node.keywords if k.arg is not None and k.arg not in _NEVER}
            fields = {name: _made(value, name, named, made) for name, value in given.items()}
            made[text] = _class(node.func.id, field, named)(**fields)
        return made[text]
    except SetupError:
        raise
    except (TypeError, ValueError) as error:
        raise SetupError(f"the run's {field} cannot be made again from {text:.200}; {REMEDY}") from error


def _class(name: str, field: str, named: Sequence[Detector]) -> Any:
    for cls in (*_STEPS, *(type(part) for part in named)):
        if cls.__name__ == name:
            return cls
    for entries in (catalog.DETECTORS, catalog.BACKENDS, catalog.EDITORS, catalog.ENCODERS):
        for path, _ in entries.values():
            module, _, attribute = path.partition(":")
            if attribute == name:
                return getattr(importlib.import_module(module), attribute)
    cure = f"say {field}=… or " if field in _OPTIONS else ""
    raise SetupError(f"the run's {field.removesuffix('s')} {name} has no short name; {cure}{REMEDY}")


def _check_same(recorded: ast.expr, now: ast.expr) -> None:
    """Raise `SetupError` for the first setting that is not as it was."""
    for path, before, after in _differences(recorded, now, ""):
        raise SetupError(f"{path} was {before:.200} in the run and would be {after:.200} now; {REMEDY}")


def _differences(recorded: ast.expr | None, now: ast.expr | None, path: str) -> Iterator[tuple[str, str, str]]:
    """(setting, its text in the run, its text now), such as ("inspect.threshold", "0.1", "0.2")."""
    before, after = ("absent" if node is None else ast.unparse(node) for node in (recorded, now))
    if before == after:
        return
    if isinstance(recorded, ast.Tuple) and isinstance(now, ast.Tuple) and len(recorded.elts) == len(now.elts):
        for one, other in zip(recorded.elts, now.elts, strict=True):
            yield from _differences(one, other, path)
    elif isinstance(recorded, ast.Call) and isinstance(now, ast.Call):
        old, new = ({k.arg or "": k.value for k in call.keywords} for call in (recorded, now))
        for name in old | new:
            yield from _differences(old.get(name), new.get(name), f"{path}.{name}".lstrip("."))
    else:
        yield path, before, after


def _without(tree: ast.expr, name: str) -> ast.expr:
    """A step without one of its settings."""
    if isinstance(tree, ast.Call):
        tree.keywords = [keyword for keyword in tree.keywords if keyword.arg != name]
    return tree


def _gate(recorded: Mapping[str, Any] | None) -> Gate | None:
    if recorded is None:
        return None
    gate = Gate(**{name: recorded[name] for name in ("above", "at_most", "residue", "strict")})
    gate.check()
    return gate
