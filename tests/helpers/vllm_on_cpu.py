"""vLLM's engine with the model's forward pass by transformers, for a machine without a GPU.

All else is vLLM's own: chat templates, picture processing, prefix cache, scheduler, stop rules, and the way of
tokens, probabilities and reasons back to `LLM.chat`.
"""

from __future__ import annotations

import dataclasses
from concurrent.futures import Future
from typing import Any

import numpy as np
import torch
import transformers
import vllm
from vllm.v1.executor import Executor
from vllm.v1.kv_cache_interface import FullAttentionSpec
from vllm.v1.outputs import LogprobsLists, ModelRunnerOutput

from u2s_datasets.parts.backends.vllm_backend import VLLMBackend


@dataclasses.dataclass(frozen=True)
class OnCPU(VLLMBackend):
    """The backend as it is, but for its device."""

    def check(self) -> None:
        """Asks for no GPU."""

    def load(self) -> Any:
        """The engine with `Forward`."""
        return vllm.LLM(**self.engine_arguments(), distributed_executor_backend=Forward, max_num_seqs=16)


@dataclasses.dataclass
class _Sequence:
    tokens: list[int]
    pictures: dict[str, torch.Tensor]
    parameters: vllm.SamplingParams
    noise: torch.Generator


class Forward(Executor):
    """One pass of the bare model over the whole sequence per token, without a cache of its own."""

    passes = 0

    def _init_executor(self) -> None:
        folder = self.model_config.model
        sees = self.model_config.is_multimodal_model
        kind = transformers.AutoModelForImageTextToText if sees else transformers.AutoModelForCausalLM
        self.network = kind.from_pretrained(folder).eval()
        self.sequences: dict[str, _Sequence] = {}
        self.seen: dict[str, dict[str, torch.Tensor]] = {}

    def collective_rpc(self, method, timeout=None, args=(), kwargs=None, non_block=False):  # noqa: ANN001
        spec = FullAttentionSpec(block_size=16, num_kv_heads=1, head_size=8, dtype=torch.float32)
        known = {
            "get_kv_cache_spec": {"layer": spec},
            "determine_available_memory": 2**26,
            "get_supported_kv_cache_layouts": ["NHD"],
            "get_supported_tasks": ("generate",),
        }
        return [] if method == "compile_or_warm_up_model" else [known.get(method)]

    def check_health(self) -> None:
        pass

    def execute_model(self, scheduler_output: Any, non_block: bool = False) -> Any:
        for name in scheduler_output.finished_req_ids:
            self.sequences.pop(name, None)
        for new in scheduler_output.scheduled_new_reqs:
            noise = torch.Generator().manual_seed(new.sampling_params.seed or 0)
            pictures = self._pictures(new.mm_features)
            self.sequences[new.req_id] = _Sequence([*new.prompt_token_ids], pictures, new.sampling_params, noise)
        self.scheduled = list(scheduler_output.num_scheduled_tokens)
        future: Future = Future()
        future.set_result(None)  # so that `sample_tokens` is asked
        return future if non_block else None

    def sample_tokens(self, grammar_output: Any, non_block: bool = False) -> Any:
        allowed = {}
        if grammar_output is not None:
            bits = np.unpackbits(grammar_output.grammar_bitmask.view(np.uint8), axis=1, bitorder="little")
            allowed = dict(zip(grammar_output.structured_output_request_ids, torch.from_numpy(bits), strict=True))
        rows = [self._next(self.sequences[name], allowed.get(name)) for name in self.scheduled]
        places = {name: i for i, name in enumerate(self.scheduled)}
        return ModelRunnerOutput(self.scheduled, places, [[tokens[0]] for tokens, _ in rows], _listed(rows))

    def _pictures(self, features: list[Any]) -> dict[str, torch.Tensor]:
        """The model's inputs for the pictures; of one whose tokens lie in the prefix cache vLLM sends nothing again."""
        for feature in features:
            if feature.data is not None and "pixel_values" in feature.data:
                self.seen[feature.identifier] = {name: element.data for name, element in feature.data.items()}
        items = [self.seen[feature.identifier] for feature in features]
        return {
            name: torch.cat([item[name].reshape(-1, item[name].shape[-1]) for item in items])
            for name in (items[0] if items else ())
        }

    def _next(self, sequence: _Sequence, allowed: torch.Tensor | None) -> tuple[list[int], list[float]]:
        """The next token first, then those that were asked for, and their log-probabilities."""
        Forward.passes += 1
        with torch.inference_mode():
            logits = self.network(input_ids=torch.tensor([sequence.tokens]), **sequence.pictures).logits[0, -1].double()
        if allowed is not None:
            logits = logits.masked_fill(allowed[: len(logits)] == 0, -torch.inf)
        heat, shares = sequence.parameters.temperature, logits.log_softmax(-1)
        noisy = (logits / (heat or 1.0)).softmax(-1)
        chosen = int(torch.multinomial(noisy, 1, generator=sequence.noise) if heat > 0 else logits.argmax())
        sequence.tokens.append(chosen)
        listed = [chosen, *(sequence.parameters.logprob_token_ids or ())]
        return listed, shares[listed].tolist()


def _listed(rows: list[tuple[list[int], list[float]]]) -> LogprobsLists:
    width = max((len(tokens) for tokens, _ in rows), default=1)
    tokens = np.array([t + [0] * (width - len(t)) for t, _ in rows], np.int32).reshape(-1, width)
    shares = np.array([s + [-np.inf] * (width - len(s)) for _, s in rows], np.float32).reshape(-1, width)
    return LogprobsLists(tokens, shares, np.ones(len(rows), np.int32))
