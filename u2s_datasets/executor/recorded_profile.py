"""The steps of a finished run, made again from what its private manifest says of them.

The manifest holds the text of both steps (`repr`), every setting included. What is made from it are classes of the
catalog and the detectors that the caller names, with plain values, and nothing else: a folder may come from anyone.
"""

import ast
import importlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from u2s_datasets.errors import SetupError
from u2s_datasets.executor.pipeline import parts_of
from u2s_datasets.parts import Detector, TextCheck, catalog
from u2s_datasets.runs.manifest import read_manifest
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
    """The steps of a run with all their settings, and with another editor or seed if one is asked for.

    Args:
        folder: of the run.
        options: `detectors`, the run's own by name, which those without a short name need; `editor`,
            `editor_options` and `seed`, as in `ProfileChanges`.

    Raises:
        SetupError: another option, or a setting that cannot be restored, which is named.
    """
    for name in set(options) - set(_OPTIONS):
        raise SetupError(f"{name}={options[name]!r}: a re-edit keeps the run's own settings; {REMEDY}")
    recorded = read_manifest(folder)["configuration"]
    editor, editor_options = options.get("editor"), dict(options.get("editor_options") or {})
    if editor is None and editor_options:
        raise SetupError(f"editor_options={editor_options!r} without an editor; add editor=…")
    if editor is not None:
        editor = make_editor(editor, editor_options)
    detectors = options.get("detectors")
    if detectors is not None:
        detectors = [catalog.make("detector", name, catalog.DETECTORS) for name in detectors]
    # Another editor takes the recorded one's place, so that one may be what cannot be restored.
    anonymize, score = _restored(recorded, detectors, "" if editor is None else "editor")
    if editor is not None:
        anonymize = replace(anonymize, editor=editor)
    if (seed := options.get("seed")) is not None:
        anonymize = replace(anonymize, seed=seed, instruct=replace(anonymize.instruct, seed=seed))
    gate = recorded["gate"]
    if gate is not None:
        gate = Gate(**{name: gate[name] for name in ("above", "at_most", "residue", "strict")})
        gate.check()
    return Profile(recorded["profile"], anonymize, score, gate)


def recorded_text_check(folder: Path) -> TextCheck | None:
    """What looked for names in a run's kept texts, with all its settings; None if nothing did.

    Raises:
        SetupError: it cannot be made again, or cannot work here.
    """
    settings = read_manifest(folder)["configuration"].get("text_check_settings", "None")
    made = _Factory(()).make(_parsed(settings, ""), "text check")
    if made is not None and not isinstance(made, TextCheck):
        raise SetupError(f"the run's text check is recorded as {settings:.200}, which is none; run it again")
    if made is not None:
        made.check()
    return made


def _restored(
    recorded: Mapping[str, Any], detectors: Sequence[Detector] | None, left_out: str
) -> tuple[Anonymize, Score]:
    """Both steps of a manifest, without the setting of `Anonymize` that is left out."""
    trees = [_parsed(text, left_out) for text in recorded["parts"]]
    factory = _Factory(detectors or ())
    anonymize, score = (factory.make(tree, "steps") for tree in trees)
    if not (isinstance(anonymize, Anonymize) and isinstance(score, Score)):
        raise SetupError(f"the run's manifest holds other steps than Anonymize and Score; {REMEDY}")
    # A default that changed since, a field that was dropped and what a file must not choose all show here.
    for tree, step in zip(trees, (anonymize, score), strict=True):
        for path, before, now in _differences(tree, _parsed(repr(step), left_out), ""):
            raise SetupError(f"{path} was {before:.200} in the run and would be {now:.200} now; {REMEDY}")
    classes = [type(detector) for detector in anonymize.inspect.detectors]
    if detectors is not None and [type(detector) for detector in detectors] != classes:
        names = ", ".join(cls.__name__ for cls in classes)
        raise SetupError(f"the run's detectors were {names}; give detectors=… of these alone, or {REMEDY}")
    for part in (*parts_of(anonymize), *parts_of(score)):
        digest = part.__getstate__().get("weights")
        if digest and digest not in recorded["weights"] and not (left_out and part is anonymize.editor):
            raise SetupError(f"the weights of {type(part).__name__} were changed since the run; {REMEDY}")
    return anonymize, score


def _parsed(text: str, left_out: str) -> ast.expr:
    """The settings of a step, without the one that is left out."""
    try:
        tree = ast.parse(text, mode="eval").body
    except (SyntaxError, ValueError, RecursionError) as error:
        raise SetupError(f"a part of the run has settings that cannot be read again: {text:.200}; {REMEDY}") from error
    if isinstance(tree, ast.Call):
        tree.keywords = [keyword for keyword in tree.keywords if keyword.arg != left_out]
    return tree


@dataclass
class _Factory:
    """Makes what a text stands for: plain values, tuples of them, and parts, which are known by name alone.

    Args:
        detectors: whose classes may be made, besides those of the catalog.
        made: text of a part -> the part: what is recorded twice is made once, so that its model is loaded once.
    """

    detectors: Sequence[Detector]
    made: dict[str, Any] = field(default_factory=dict)

    def make(self, node: ast.expr, name: str) -> Any:
        """The value of a setting of this name. Raises `SetupError` if it cannot be made."""
        if isinstance(node, ast.Tuple):
            return tuple(self.make(item, name) for item in node.elts)
        text = ast.unparse(node)
        try:
            if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Name)):
                return ast.literal_eval(node)
            if text not in self.made:
                given = {k.arg: k.value for k in node.keywords if k.arg is not None and k.arg not in _NEVER}
                fields = {key: self.make(value, key) for key, value in given.items()}
                self.made[text] = self._class(node.func.id, name)(**fields)
            return self.made[text]
        except SetupError:
            raise
        except (TypeError, ValueError) as error:
            raise SetupError(f"the run's {name} cannot be made again from {text:.200}; {REMEDY}") from error

    def _class(self, class_name: str, name: str) -> Any:
        for cls in (*_STEPS, *map(type, self.detectors)):
            if cls.__name__ == class_name:
                return cls
        tables = (catalog.DETECTORS, catalog.BACKENDS, catalog.EDITORS, catalog.ENCODERS, catalog.TEXT_CHECKS)
        for path, _ in (entry for table in tables for entry in table.values()):
            module, _, attribute = path.partition(":")
            if attribute == class_name:
                return getattr(importlib.import_module(module), attribute)
        cure = f"give {name}=… or " if name in _OPTIONS else ""
        raise SetupError(f"the run's {name.removesuffix('s')} {class_name} has no short name; {cure}{REMEDY}")


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
