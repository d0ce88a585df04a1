"""What each profile is made of, in plain values: names of weights, of what runs them and of an editor."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from u2s_datasets.parts.weights import WEIGHTS, gigabytes


@dataclass(frozen=True)
class Recipe:
    """What a profile is made of.

    Args:
        words: what it is, in one line.
        models: role -> Hub id. The roles are "inspect" (captions too), "instruct" (merging too) and "edit".
        small: other models for some roles, for smaller GPUs.
        backend: what runs the language models where the user names nothing.
        editor: a name of `catalog.EDITORS`.
    """

    words: str
    models: Mapping[str, str] = field(default_factory=dict)
    small: Mapping[str, str] = field(default_factory=dict)
    backend: str = "transformers"
    editor: str = "redact"

    def needs(self) -> list[str]:
        """What it takes, in lines: weights with their licences, extras, memory, and the commands that get them."""
        if not self.models:
            return []
        everything = [WEIGHTS[model] for model in self.models.values()]
        billions = sum(weights.billions for weights in everything)
        extras = "models,vllm" if self.backend == "vllm" else "models"
        lines = [f"language models by {self.backend}, editor {self.editor}"]
        for role, model in self.models.items():
            lines.append(f"{role:9}{model} ({WEIGHTS[model].billions} billion parameters): {WEIGHTS[model].licence}")
        for role, model in self.small.items():
            lines.append(f"small: {role} by {model} ({WEIGHTS[model].billions} billion): {WEIGHTS[model].licence}")
        lines.append(
            f"a GPU with about {gigabytes(billions)} GB: computed from {billions:.1f} billion parameters in 16 bits, "
            "a fifth more for the work; not measured"
        )
        return [*lines, f"pip install 'u2s_datasets[{extras}]'", *(weights.get for weights in everything)]


RECIPES = {
    "cpu": Recipe("detectors and redaction: no download, no GPU, no account"),
    "paper": Recipe(
        "the paper's models: InternVL2.5, Qwen3 and FlowEdit on SD3; detectors as well, to look again",
        {
            "inspect": "OpenGVLab/InternVL2_5-8B",
            "instruct": "Qwen/Qwen3-4B-Instruct-2507",
            "edit": "stabilityai/stable-diffusion-3-medium-diffusers",
        },
        backend="vllm",
        editor="flowedit",
    ),
    "permissive": Recipe(
        "weights under Apache-2.0 alone: Qwen3-VL, Qwen3 and FLUX.2 klein; detectors as well, to look again",
        {
            "inspect": "Qwen/Qwen3-VL-8B-Instruct",
            "instruct": "Qwen/Qwen3-4B-Instruct-2507",
            "edit": "black-forest-labs/FLUX.2-klein-4B",
        },
        small={"inspect": "Qwen/Qwen3-VL-4B-Instruct"},
        editor="flux2-klein",
    ),
}
