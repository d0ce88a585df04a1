"""FLUX's blocks for three branches: text, image and source. One pass reads as OminiControl's figure does.

The blocks' layers are called one by one, since diffusers' own forward pass knows two branches and one set of weights.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from diffusers.models.attention_dispatch import dispatch_attention_fn
from diffusers.models.embeddings import apply_rotary_emb

KeysValues = tuple[torch.Tensor, torch.Tensor]
"""Each (N, tokens, heads, channels), positions applied."""


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


Done = tuple[list[Branch], KeysValues]


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
        self, text: Branch, image: Branch, source: Branch | None, known: Sequence[KeysValues] = ()
    ) -> torch.Tensor:
        """(N, tokens of the image, channels): where the image's latents move.

        Args:
            source: None where `known` has its keys and values.
        """
        others = [] if source is None else [source]
        both, *_ = self.through([text, image, *others], known)
        out = both.tokens[:, text.tokens.shape[1] :]
        return self.base.proj_out(self.base.norm_out(out, image.time))

    def keys_values(self, source: Branch) -> list[KeysValues]:
        """The source's own in every block, where it depends on nothing else."""
        seen: list[KeysValues] = []
        self.through([source], (), seen)
        return seen

    def through(
        self, branches: list[Branch], known: Sequence[KeysValues], seen: list[KeysValues] | None = None
    ) -> list[Branch]:
        """The branches behind all blocks, text and image as one; `seen` gets each block's keys and values."""
        for name, work in (("transformer_blocks", _double), ("single_transformer_blocks", _single)):
            if work is _single:
                branches = _joined(branches)
            for i, block in enumerate(getattr(self.base, name)):
                own = getattr(self.adapted, name)[i]
                blocks = [own if branch.kind == "source" else block for branch in branches]
                at = i + (len(self.base.transformer_blocks) if work is _single else 0)
                branches, made = work(blocks, branches, known[at] if known else None)
                if seen is not None:
                    seen.append(made)
        return branches


def embedded(transformer: Any, t: torch.Tensor, scales: torch.Tensor, pooled: torch.Tensor) -> torch.Tensor:
    """(N, D): timestep in [0, 1], guidance where the model takes any, and the text as a whole."""
    if not transformer.config.guidance_embeds:  # as "schnell"
        return transformer.time_text_embed(t.to(pooled.dtype) * 1000, pooled)
    return transformer.time_text_embed(t.to(pooled.dtype) * 1000, scales.to(pooled.dtype) * 1000, pooled)


def _double(blocks: Sequence[Any], branches: Sequence[Branch], known: KeysValues | None) -> Done:
    """A block in which text and image have weights of their own."""
    norms = [b.norm1_context if s.kind == "text" else b.norm1 for b, s in zip(blocks, branches, strict=True)]
    normed = [norm(s.tokens, emb=s.time) for norm, s in zip(norms, branches, strict=True)]
    outputs, made = _attention(blocks, branches, [x for x, *_ in normed], known)
    done = []
    for block, s, out, (_, gate, shift, scale, gate_mlp) in zip(blocks, branches, outputs, normed, strict=True):
        text = s.kind == "text"
        out = block.attn.to_add_out(out) if text else block.attn.to_out[0](out)
        tokens = s.tokens + gate[:, None] * out
        norm, feed_forward = (block.norm2_context, block.ff_context) if text else (block.norm2, block.ff)
        x = norm(tokens) * (1 + scale[:, None]) + shift[:, None]
        done.append(_with(s, tokens + gate_mlp[:, None] * feed_forward(x)))
    return done, made


def _single(blocks: Sequence[Any], branches: Sequence[Branch], known: KeysValues | None) -> Done:
    """A block of attention and feed-forward side by side."""
    normed = [block.norm(s.tokens, emb=s.time) for block, s in zip(blocks, branches, strict=True)]
    outputs, made = _attention(blocks, branches, [x for x, _ in normed], known)
    done = []
    for block, s, out, (x, gate) in zip(blocks, branches, outputs, normed, strict=True):
        hidden = torch.cat([out, block.act_mlp(block.proj_mlp(x))], dim=2)
        done.append(_with(s, s.tokens + gate[:, None] * block.proj_out(hidden)))
    return done, made


def _attention(
    blocks: Sequence[Any], branches: Sequence[Branch], normed: Sequence[torch.Tensor], known: KeysValues | None
) -> tuple[Sequence[torch.Tensor], KeysValues]:
    """Every branch attends to all of them and to the known keys: (N, L, D) for each, and their own keys and values."""
    heads = [_heads(b.attn, s, x) for b, s, x in zip(blocks, branches, normed, strict=True)]
    query, key, value = (torch.cat(parts, dim=1) for parts in zip(*heads, strict=True))
    made = key, value
    if known is not None:
        key, value = torch.cat([key, known[0]], dim=1), torch.cat([value, known[1]], dim=1)
    backend = blocks[0].attn.processor._attention_backend
    out = dispatch_attention_fn(query, key, value, backend=backend).flatten(2, 3).to(query.dtype)
    return out.split([s.tokens.shape[1] for s in branches], dim=1), made


def _heads(attn: Any, branch: Branch, x: torch.Tensor) -> list[torch.Tensor]:
    """Queries, keys and values of a branch, (N, L, heads, channels) each."""
    if branch.kind == "text":
        layers, norms = (attn.add_q_proj, attn.add_k_proj, attn.add_v_proj), (attn.norm_added_q, attn.norm_added_k)
    else:
        layers, norms = (attn.to_q, attn.to_k, attn.to_v), (attn.norm_q, attn.norm_k)
    query, key, value = (layer(x).unflatten(-1, (attn.heads, -1)) for layer in layers)
    turned = [apply_rotary_emb(n(y), branch.rotary, sequence_dim=1) for n, y in zip(norms, (query, key), strict=True)]
    return [*turned, value]


def _with(branch: Branch, tokens: torch.Tensor) -> Branch:
    if tokens.dtype == torch.float16:  # FLUX's outliers exceed it
        tokens = tokens.clip(-65504, 65504)
    return dataclasses.replace(branch, tokens=tokens)


def _joined(branches: list[Branch]) -> list[Branch]:
    """Text and image as one branch, where they are there."""
    if branches[0].kind != "text":
        return branches
    text, image, *others = branches
    tokens = torch.cat([text.tokens, image.tokens], dim=1)
    cosines, sines = (torch.cat(pair) for pair in zip(text.rotary, image.rotary, strict=True))
    return [Branch("both", tokens, image.time, (cosines, sines)), *others]
