"""Safe cross-attention as a module on a diffusers UNet: its two forms, and its weights in one file.

Beside each cross-attention on the edit instruction sits an auxiliary attention that sees the public caption too.
The UNet is given both texts as one sequence [public caption; edit instruction] of twice the tokens; the processors
here split it.

Source: the Unsafe2Safe paper, section 3.2.2, figure 3 and S2.2.
"""

import copy
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import nn
from torch.nn import functional

from u2s_datasets.errors import SetupError
from u2s_datasets.parts.editors.unet import attention_layers, merge_heads, split_heads

FORMAT = "u2s_datasets safe attention 1"

CHUNK = 16384  # queries at a time whose maps are fused: each takes 16 channels over all tokens

# Is given the maps (N, heads, queries, tokens) on the public caption and on the edit instruction.
Recorder = Callable[[torch.Tensor, torch.Tensor], None]


class AuxiliaryAttention(nn.Module):
    """An attention processor with projections of its own, which start as copies of the cross-attention's.

    Args:
        attention: the UNet's cross-attention layer.
        scale: weight of what the auxiliary adds.
    """

    def __init__(self, attention: Any, scale: float) -> None:
        super().__init__()
        self.scale = scale
        self.recorder: Recorder | None = None
        self.to_q, self.to_k, self.to_v = (copy.deepcopy(m) for m in (attention.to_q, attention.to_k, attention.to_v))


class SafeAttention(AuxiliaryAttention):
    """The paper's form: cross-attention on the instruction, plus attention on [public caption; instruction].

    out = CrossAttention(x, edit) + scale · Auxiliary(x, [public; edit]), which the block adds to x. The auxiliary's
    q, k, v and output projections start as copies of the cross-attention's. The paper does not say how the two are
    combined; a sum of residuals is what its figure 3 and the authors' later code have in common. So at the start,
    with a public caption equal to the instruction, the output is (1 + scale) times the cross-attention's, and scale 0
    is the checkpoint without the module.
    """

    def __init__(self, attention: Any, scale: float) -> None:
        super().__init__(attention, scale)
        self.own = attention.processor
        self.to_out = copy.deepcopy(attention.to_out[0])

    def forward(
        self,
        attn: Any,
        hidden_states: torch.Tensor,
        encoder_hidden_states: torch.Tensor,
        attention_mask: torch.Tensor | None = None,
        temb: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """(N, queries, channels) from as many, and (N, 2 · tokens, text channels) as [public; edit]."""
        _, edit = split_texts(encoder_hidden_states)
        crossed = self.own(attn, hidden_states, edit, attention_mask, temb)
        query = split_heads(self.to_q(hidden_states), attn.heads)
        key, value = (split_heads(project(encoder_hidden_states), attn.heads) for project in (self.to_k, self.to_v))
        if self.recorder is not None:
            shares = torch.softmax((query @ key.mT * attn.scale).float(), dim=-1)
            self.recorder(*shares.chunk(2, dim=-1))
        attended = functional.scaled_dot_product_attention(query, key, value, scale=attn.scale)
        return crossed + self.scale * self.to_out(merge_heads(attended))


class FusedSafeAttention(AuxiliaryAttention):
    """The authors' later public form: two attentions whose maps are fused.

    With maps E on the instruction and P on the public caption, each a softmax over its own tokens, P becomes the
    softmax of the public part of F([E; P]), where F runs along the tokens: a 1-d convolution to 16 channels, GELU, a
    1-d convolution back, both of width 3. out = to_out(E·V_edit + scale · P·V_public), by the one output projection of
    the cross-attention. q, k and v on the public caption start as copies; F starts as PyTorch starts convolutions,
    drawn from seed 0, so that its maps are nearly even at first.
    """

    def __init__(self, attention: Any, scale: float) -> None:
        super().__init__(attention, scale)
        fuse = (nn.Conv1d(1, 16, 3, padding=1), nn.GELU(), nn.Conv1d(16, 1, 3, padding=1))
        source = torch.Generator().manual_seed(0)
        for layer in (fuse[0], fuse[2]):
            bound = 1 / math.sqrt(layer.in_channels * 3)
            for weight in layer.parameters():
                nn.init.uniform_(weight, -bound, bound, generator=source)
        self.fuse = nn.Sequential(*fuse).to(attention.to_q.weight)

    def forward(
        self,
        attn: Any,
        hidden_states: torch.Tensor,
        encoder_hidden_states: torch.Tensor,
        attention_mask: torch.Tensor | None = None,
        temb: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """(N, queries, channels) from as many, and (N, 2 · tokens, text channels) as [public; edit]."""
        public, edit = split_texts(encoder_hidden_states)
        on_edit = _attention_map(attn, attn.to_q(hidden_states), attn.to_k(edit))
        on_public = _attention_map(attn, self.to_q(hidden_states), self.to_k(public))
        rows = torch.cat([on_edit, on_public], dim=-1).flatten(0, 2).unsqueeze(1)
        fused = torch.cat([self.fuse(chunk)[:, 0, edit.shape[1] :] for chunk in rows.split(CHUNK)])
        on_public = torch.softmax(fused, dim=-1).view_as(on_public)
        if self.recorder is not None:
            self.recorder(on_public, on_edit)
        attended = on_edit @ split_heads(attn.to_v(edit), attn.heads)
        attended = attended + self.scale * (on_public @ split_heads(self.to_v(public), attn.heads))
        return attn.to_out[0](merge_heads(attended))


def split_texts(texts: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """The public caption's and the instruction's halves of (N, 2 · tokens, channels)."""
    if texts.shape[1] % 2:
        raise ValueError(f"{texts.shape[1]} tokens are not [public caption; instruction] of the same length")
    return texts.chunk(2, dim=1)


def _attention_map(attn: Any, query: torch.Tensor, key: torch.Tensor) -> torch.Tensor:
    return torch.softmax(split_heads(query, attn.heads) @ split_heads(key, attn.heads).mT * attn.scale, dim=-1)


MODULES: dict[str, type[SafeAttention] | type[FusedSafeAttention]] = {
    "concatenated": SafeAttention,
    "fused": FusedSafeAttention,
}


def install(unet: Any, form: str, scale: float) -> None:
    """Put a module of this form beside every cross-attention of a UNet, its weights copied from it."""
    for layer in attention_layers(unet, "attn2"):
        layer.attention.set_processor(MODULES[form](layer.attention, scale))


def installed_modules(unet: Any) -> dict[str, Any]:
    """The modules of `install` by their layers' names, in the order of the forward pass."""
    return {layer.name: layer.attention.processor for layer in attention_layers(unet, "attn2")}


def named_weights(unet: Any) -> dict[str, torch.Tensor]:
    """The weights of the modules, by their names in the file."""
    return {
        f"{name}.{key}": weight.detach()
        for name, module in installed_modules(unet).items()
        for key, weight in module.state_dict().items()
    }


def save_weights(unet: Any, path: Path, form: str, **about: str) -> None:
    """Write the modules' weights as safetensors; `about` joins the file's metadata."""
    weights = {name: weight.cpu().contiguous() for name, weight in named_weights(unet).items()}
    partial = path.with_suffix(".partial")
    save_file(weights, partial, metadata={"format": FORMAT, "form": form} | about)
    partial.replace(path)


def load_weights(unet: Any, path: Path, form: str) -> dict[str, str]:
    """Load the weights of a file into the modules of `install`.

    Returns:
        The file's metadata.

    Raises:
        SetupError: the file is of another kind or form, or its tensors are not those of this UNet.
    """
    try:
        with safe_open(path, framework="pt") as file:
            about = file.metadata() or {}
        found = load_file(path)
    except (SafetensorError, OSError) as error:
        raise SetupError(f"{path.name} cannot be read: {error}; give a folder that `save` wrote") from error
    if about.get("format") != FORMAT:
        raise SetupError(f"{path.name} has the format {about.get('format')!r}, not {FORMAT!r}; write it by `save`")
    if about.get("form") != form:
        raise SetupError(f"{path.name} holds the form {about.get('form')!r}; give form={about.get('form')!r}")
    weights = named_weights(unet)
    here, there = ({name: tuple(weight.shape) for name, weight in own.items()} for own in (weights, found))
    if odd := sorted(name for name in here | there if here.get(name) != there.get(name)):
        raise SetupError(
            f"{path.name}: {len(odd)} tensors do not match; {odd[0]!r} has the shape {there.get(odd[0])} in the file "
            f"and {here.get(odd[0])} in the model; give the model that these weights were trained on"
        )
    for name, weight in weights.items():
        weight.copy_(found[name])
    return about
