"""FLUX's blocks for three branches: text, image and source, of which the source's has a LoRA.

The blocks' layers are called one by one, since diffusers' own forward pass knows two branches and one set of weights.
The LoRA is therefore no adapter of the pipeline: a second transformer shares all weights that it does not change.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from diffusers.models.attention_dispatch import dispatch_attention_fn
from diffusers.models.embeddings import apply_rotary_emb
from torch import nn
from torch.nn import functional

from u2s_datasets.errors import SetupError

KeysValues = tuple[torch.Tensor, torch.Tensor]  # each (N, tokens, heads, channels), positions applied


@dataclass(frozen=True)
class Branch:
    """One stream of tokens on its way through the blocks.

    Args:
        kind: "text", "image" or "source"; "both" is text and image, which share all weights in the later blocks.
        tokens: (N, L, D).
        time: (N, D), the embedding of timestep, guidance and pooled text.
        rotary: cosines and sines of the positions, each (L, channels of a head).
    """

    kind: str
    tokens: torch.Tensor
    time: torch.Tensor
    rotary: tuple[torch.Tensor, torch.Tensor]

    def with_tokens(self, tokens: torch.Tensor) -> Branch:
        """The branch behind a block."""
        if tokens.dtype == torch.float16:
            tokens = tokens.clip(-65504, 65504)  # FLUX's outliers exceed the range of float16
        return replace(self, tokens=tokens)


@dataclass(frozen=True)
class Branches:
    """FLUX's transformer for two or three branches, which all attend to all that pass together.

    Args:
        base: a `FluxTransformer2DModel`.
        adapted: the same with the LoRA in it, for the source branch.
    """

    base: Any
    adapted: Any

    def velocity(
        self, text: Branch, image: Branch, source: Branch | None, cached: Sequence[KeysValues] = ()
    ) -> torch.Tensor:
        """(N, tokens of the image, channels): where the image's latents move.

        Args:
            source: None if `cached` has its keys and values.
        """
        branches = [text, image] if source is None else [text, image, source]
        both, *_ = self.run_blocks(branches, cached)
        out = both.tokens[:, text.tokens.shape[1] :]
        return self.base.proj_out(self.base.norm_out(out, image.time))

    def keys_values(self, source: Branch) -> list[KeysValues]:
        """The source's own in every block, if it attends to itself alone."""
        collected: list[KeysValues] = []
        self.run_blocks([source], (), collected)
        return collected

    def run_blocks(
        self, branches: list[Branch], cached: Sequence[KeysValues], collected: list[KeysValues] | None = None
    ) -> list[Branch]:
        """The branches behind all blocks, text and image as one; `collected` gets each block's keys and values."""
        double = len(self.base.transformer_blocks)
        blocks = [*self.base.transformer_blocks, *self.base.single_transformer_blocks]
        adapted = [*self.adapted.transformer_blocks, *self.adapted.single_transformer_blocks]
        for i, (block, adapted_block) in enumerate(zip(blocks, adapted, strict=True)):
            if i == double and branches[0].kind == "text":
                branches = _join_text_and_image(*branches)
            own = [adapted_block if branch.kind == "source" else block for branch in branches]
            run_block = _double_block if i < double else _single_block
            branches, made = run_block(own, branches, cached[i] if cached else None)
            if collected is not None:
                collected.append(made)
        return branches


def embed_time(transformer: Any, t: torch.Tensor, scales: torch.Tensor, pooled: torch.Tensor) -> torch.Tensor:
    """(N, D): timestep in [0, 1], guidance if the model takes any, and the text as a whole."""
    guidance = [scales.to(pooled.dtype) * 1000] if transformer.config.guidance_embeds else []  # not for "schnell"
    return transformer.time_text_embed(t.to(pooled.dtype) * 1000, *guidance, pooled)


def _double_block(
    blocks: Sequence[Any], branches: Sequence[Branch], cached: KeysValues | None
) -> tuple[list[Branch], KeysValues]:
    """A block in which text and image have weights of their own."""
    norms = [b.norm1_context if s.kind == "text" else b.norm1 for b, s in zip(blocks, branches, strict=True)]
    normed = [norm(s.tokens, emb=s.time) for norm, s in zip(norms, branches, strict=True)]
    outputs, made = _attend(blocks, branches, [x for x, *_ in normed], cached)
    done = []
    for block, s, out, (_, gate, shift, scale, gate_mlp) in zip(blocks, branches, outputs, normed, strict=True):
        text = s.kind == "text"
        out = block.attn.to_add_out(out) if text else block.attn.to_out[0](out)
        tokens = s.tokens + gate[:, None] * out
        norm, feed_forward = (block.norm2_context, block.ff_context) if text else (block.norm2, block.ff)
        x = norm(tokens) * (1 + scale[:, None]) + shift[:, None]
        done.append(s.with_tokens(tokens + gate_mlp[:, None] * feed_forward(x)))
    return done, made


def _single_block(
    blocks: Sequence[Any], branches: Sequence[Branch], cached: KeysValues | None
) -> tuple[list[Branch], KeysValues]:
    """A block of attention and feed-forward side by side."""
    normed = [block.norm(s.tokens, emb=s.time) for block, s in zip(blocks, branches, strict=True)]
    outputs, made = _attend(blocks, branches, [x for x, _ in normed], cached)
    done = []
    for block, s, out, (x, gate) in zip(blocks, branches, outputs, normed, strict=True):
        hidden = torch.cat([out, block.act_mlp(block.proj_mlp(x))], dim=2)
        done.append(s.with_tokens(s.tokens + gate[:, None] * block.proj_out(hidden)))
    return done, made


def _attend(
    blocks: Sequence[Any], branches: Sequence[Branch], normed: Sequence[torch.Tensor], cached: KeysValues | None
) -> tuple[Sequence[torch.Tensor], KeysValues]:
    """Every branch attends to all of them and to the cached keys: (N, L, D) for each, and their own keys and values."""
    heads = [_project_heads(b.attn, s, x) for b, s, x in zip(blocks, branches, normed, strict=True)]
    query, key, value = (torch.cat(parts, dim=1) for parts in zip(*heads, strict=True))
    made = key, value
    if cached is not None:
        key, value = torch.cat([key, cached[0]], dim=1), torch.cat([value, cached[1]], dim=1)
    backend = blocks[0].attn.processor._attention_backend
    out = dispatch_attention_fn(query, key, value, backend=backend).flatten(2, 3).to(query.dtype)
    return out.split([s.tokens.shape[1] for s in branches], dim=1), made


def _project_heads(attn: Any, branch: Branch, x: torch.Tensor) -> list[torch.Tensor]:
    """Queries, keys and values of a branch, (N, L, heads, channels) each."""
    if branch.kind == "text":
        layers, norms = (attn.add_q_proj, attn.add_k_proj, attn.add_v_proj), (attn.norm_added_q, attn.norm_added_k)
    else:
        layers, norms = (attn.to_q, attn.to_k, attn.to_v), (attn.norm_q, attn.norm_k)
    query, key, value = (layer(x).unflatten(-1, (attn.heads, -1)) for layer in layers)
    turned = [apply_rotary_emb(n(y), branch.rotary, sequence_dim=1) for n, y in zip(norms, (query, key), strict=True)]
    return [*turned, value]


def _join_text_and_image(text: Branch, image: Branch, *others: Branch) -> list[Branch]:
    tokens = torch.cat([text.tokens, image.tokens], dim=1)
    cosines, sines = (torch.cat(pair) for pair in zip(text.rotary, image.rotary, strict=True))
    return [Branch("both", tokens, image.time, (cosines, sines)), *others]


_LORA_KEY = re.compile(
    r"(?:base_model\.model\.)?(?:transformer\.)?(?P<layer>.+)\.lora"
    r"(?:(?P<down>_A|_down|\.down)|_B|_up|\.up)(?:\.\w+)?\.weight"
)

LowRankChange = tuple[torch.Tensor, torch.Tensor]  # the matrices (r, in) and (out, r) of one layer


class LowRank(nn.Module):
    """A linear layer and its low-rank change: base(x) + scale · up(down(x)). The base is shared, not copied."""

    def __init__(self, base: nn.Linear, down: torch.Tensor, up: torch.Tensor) -> None:
        super().__init__()
        self.base, self.down, self.up = base, down, up

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(..., in) to (..., out)."""
        return self.base(x) + functional.linear(functional.linear(x, self.down), self.up)


def read_lora(path: Path) -> dict[str, LowRankChange]:
    """The changes by the names of their layers, from a safetensors file of diffusers or peft.

    Raises:
        SetupError: the file holds something else, or half of a change.
    """
    halves: dict[str, dict[str, torch.Tensor]] = {}
    for key, value in safetensors.torch.load_file(path).items():
        if key.endswith(".alpha"):
            continue
        found = _LORA_KEY.fullmatch(key)
        if found is None or value.ndim != 2:
            raise SetupError(f"unknown tensor {key!r} in the LoRA; expected matrices as diffusers or peft write them")
        halves.setdefault(found["layer"], {})["up" if found["down"] is None else "down"] = value
    alone = [name for name, pair in halves.items() if len(pair) != 2]
    if alone or not halves:
        what = f"{alone[0]!r} has one matrix of two" if alone else "it is empty"
        raise SetupError(f"incomplete LoRA: {what}; expected two matrices per layer")
    return {name: (pair["down"], pair["up"]) for name, pair in halves.items()}


def apply_lora(
    module: nn.Module, changes: Mapping[str, LowRankChange], scale: float, device: str | torch.device, name: str = ""
) -> nn.Module:
    """The module with these changes to its linear layers; what they do not touch is the very same module.

    Args:
        changes: by the layers' names within `module`.
        scale: what each change is multiplied by.
        device: where the changes' matrices go; they take the layers' dtype.

    Raises:
        SetupError: a change does not have its layer's size.
    """
    if name in changes:
        return _add_low_rank(module, changes[name], scale, device, name)
    children = {
        key: apply_lora(child, changes, scale, device, f"{name}.{key}" if name else key)
        for key, child in module.named_children()
    }
    if all(children[key] is child for key, child in module.named_children()):
        return module
    own = copy.copy(module)  # shares parameters, hooks and processors with the original
    own._modules = {**module._modules, **children}
    return own


def _add_low_rank(
    layer: nn.Module, change: LowRankChange, scale: float, device: str | torch.device, name: str
) -> nn.Module:
    down, up = change
    if not isinstance(layer, nn.Linear):
        raise SetupError(f"the LoRA changes {name!r}, which is not a linear layer of the model; give this model's LoRA")
    if (down.shape[1], up.shape[0], down.shape[0]) != (layer.in_features, layer.out_features, up.shape[1]):
        shapes = f"{tuple(down.shape)} and {tuple(up.shape)}"
        raise SetupError(
            f"the LoRA has {shapes} for {name!r}, which maps {layer.in_features} to {layer.out_features}; "
            "give this model's LoRA"
        )
    kind = layer.weight.dtype
    # A copy: where in its file a matrix lies would else decide its alignment in memory, and so the last bit.
    return LowRank(layer, down.to(device, kind, copy=True), (up.float() * scale).to(device, kind))
