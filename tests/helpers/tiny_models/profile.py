"""A tiny Qwen2.5-VL and a tiny Qwen3, taught in seconds what the stages ask of four photos and how to answer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from tests.helpers.fakes import Rewriter
from tests.helpers.tiny_models import language
from u2s_datasets.parts import Backend, Request
from u2s_datasets.parts.backends.scripted import Scripted
from u2s_datasets.parts.backends.transformers_backend import TransformersBackend
from u2s_datasets.stages.anonymize import Anonymize
from u2s_datasets.stages.batch import Row
from u2s_datasets.stages.caption import Caption
from u2s_datasets.stages.inspect import Inspect
from u2s_datasets.stages.instruct import Instruct

Lesson = tuple[Request, str]


@dataclass(frozen=True)
class Teacher(Backend):
    """Says what its script says, and remembers every question with its answer."""

    script: Scripted
    lessons: list[Lesson] = field(default_factory=list)

    def generate(self, requests: Sequence[Request]) -> list[str]:
        answers = self.script.generate(requests)
        self.lessons.extend(zip(requests, answers, strict=True))
        return answers

    def choose(self, requests: Sequence[Request], choices: Sequence[str]) -> list[dict[str, float]]:
        weights = self.script.choose(requests, choices)
        likeliest = [max(one, key=lambda choice: one[choice]) for one in weights]
        self.lessons.extend((r, f" {choice}") for r, choice in zip(requests, likeliest, strict=True))
        return weights


def lessons(photos: Sequence[Path], script: Scripted) -> tuple[list[Lesson], list[Lesson]]:
    """What the stages ask a model that sees, and one that writes, of these photos, with the script's answers."""
    eye, pen = Teacher(script), Teacher(script)
    rows = [Row(str(photo), {}) for photo in photos]
    steps = {
        "inspect": Inspect(detectors=(), backend=eye),
        "caption": Caption(backend=eye),
        "instruct": Instruct(backend=pen),
    }
    Anonymize(editor=Rewriter(), **steps).run(rows)
    assert all(row.failure is None for row in rows), [row.failure for row in rows]
    return eye.lessons, pen.lessons


def taught(folder: Path, lessons: Sequence[Lesson], sees: bool, most: int = 150) -> Path:
    """A checkpoint that answers these questions as it was told to, word by word.

    Args:
        most: passes through all lessons; it stops as soon as it knows them by heart.
    """
    texts = [part for request, _ in lessons for message in request.messages for part in message.content]
    words = [text for text in texts if isinstance(text, str)] + [answer for _, answer in lessons]
    (language.qwen_vl if sees else language.causal_lm)(folder, words * 5)
    loaded = TransformersBackend(str(folder), dtype="float32", device="cpu").loaded
    network = loaded.network.train()
    optimizer = torch.optim.AdamW(network.parameters(), lr=5e-3, betas=(0.9, 0.95), weight_decay=0.0)
    inputs = [_inputs(loaded, *lesson) for lesson in lessons]
    for _ in range(most):
        losses = [network(**one).loss for one in inputs]
        sum(losses).backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        if max(float(loss.detach()) for loss in losses) < 0.03:
            break
    return language._saved(folder, network, loaded.processor)


def _inputs(loaded: Any, request: Request, answer: str) -> dict[str, Any]:
    """A question as the backend gives it to the model, its answer, and the answer alone as what is to be learned."""
    made = dict(loaded.inputs([request]))
    ids = loaded.tokenizer(answer, add_special_tokens=False).input_ids
    said = torch.tensor([[*ids, loaded.tokenizer.convert_tokens_to_ids("<|im_end|>")]])
    length = made["input_ids"].shape[1]
    for name in [name for name, value in made.items() if value.shape[:2] == (1, length)]:
        more = said if name == "input_ids" else torch.full_like(said, int(name == "attention_mask"))
        made[name] = torch.cat([made[name], more.to(made[name].dtype)], dim=1)
    labels = torch.full_like(made["input_ids"], -100)
    labels[:, length:] = said
    return made | {"labels": labels}
