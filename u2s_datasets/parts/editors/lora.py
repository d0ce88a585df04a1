"""LoRA files, and modules that have one beside modules that have not: both share all other weights."""

from __future__ import annotations

import copy
import re
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import nn
from torch.nn import functional

from u2s_datasets.errors import SetupError

_KEY = re.compile(
    r"(?:base_model\.model\.)?(?:transformer\.)?(.+)\.lora(?:_A|_B|_down|_up|\.down|\.up)(?:\.\w+)?\.weight"
)
_DOWN = re.compile(r"\.lora(?:_A|_down|\.down)\.")

Change = tuple[torch.Tensor, torch.Tensor]
"""The matrices (r, in) and (out, r) of a layer's low-rank change."""


class LowRank(nn.Module):
    """A linear layer and its low-rank change: base(x) + scale · up(down(x)). The base is shared, not copied."""

    def __init__(self, base: nn.Linear, down: torch.Tensor, up: torch.Tensor) -> None:
        super().__init__()
        self.base, self.down, self.up = base, down, up

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(..., in) to (..., out)."""
        return self.base(x) + functional.linear(functional.linear(x, self.down), self.up)


def read(path: Path) -> dict[str, Change]:
    """The changes by the names of their layers, from a file of diffusers or peft (safetensors).

    Raises:
        SetupError: it holds something else, or half of a change.
    """
    import safetensors.torch

    halves: dict[str, dict[bool, torch.Tensor]] = {}
    for key, value in safetensors.torch.load_file(path).items():
        if key.endswith(".alpha"):
            continue
        found = _KEY.fullmatch(key)
        if found is None or value.ndim != 2:
            raise SetupError(f"lora: {key!r} is no matrix of a LoRA as diffusers or peft write it")
        halves.setdefault(found[1], {})[bool(_DOWN.search(key))] = value
    alone = [name for name, pair in halves.items() if len(pair) != 2]
    if alone or not halves:
        raise SetupError(f"lora: {alone[0]} has one matrix of two" if alone else "lora: the file is empty")
    return {name: (pair[True], pair[False]) for name, pair in halves.items()}


def adapted(
    module: nn.Module, changes: Mapping[str, Change], scale: float, device: str | torch.device, name: str = ""
) -> nn.Module:
    """The module with these changes to its linear layers; what they do not touch is the very same module.

    Args:
        changes: by the layers' names within `module`.
        scale: what each change is multiplied by.
        device: where the changes' matrices go; they take the layers' dtype.

    Raises:
        SetupError: a change is not of its layer's size.
    """
    if name in changes:
        return _changed(module, changes[name], scale, device, name)
    children = {
        key: adapted(child, changes, scale, device, f"{name}.{key}" if name else key)
        for key, child in module.named_children()
    }
    if all(children[key] is child for key, child in module.named_children()):
        return module
    own = copy.copy(module)  # shares parameters, hooks and processors with the original
    own._modules = {**module._modules, **children}
    return own


def _changed(layer: nn.Module, change: Change, scale: float, device: str | torch.device, name: str) -> nn.Module:
    down, up = change
    if not isinstance(layer, nn.Linear):
        raise SetupError(f"lora: {name} is no linear layer of the model")
    if (down.shape[1], up.shape[0], down.shape[0]) != (layer.in_features, layer.out_features, up.shape[1]):
        shapes = f"{tuple(down.shape)} and {tuple(up.shape)}"
        raise SetupError(
            f"lora: {name} maps {layer.in_features} to {layer.out_features}, and its matrices are {shapes}"
        )
    kind = layer.weight.dtype
    # A copy: where in its file a matrix lies would else decide its alignment in memory, and so the last bit.
    return LowRank(layer, down.to(device, kind, copy=True), (up.float() * scale).to(device, kind))
