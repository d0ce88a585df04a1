"""FlowEdit: the picture moves along the difference of two velocities, one towards each prompt, without inversion.

Kulikov et al., "FlowEdit: Inversion-Free Text-Based Editing Using Pre-Trained Flow Models", arXiv 2412.08629.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from u2s_datasets.errors import MissingWeights, SetupError
from u2s_datasets.parts import checkpoints, checks
from u2s_datasets.parts.editors.batches import Prepared
from u2s_datasets.parts.editors.diffusion import DiffusionEditor, generators, pixels_of
from u2s_datasets.parts.editors.flow_models import SD3, Condition, FlowModel, Flux
from u2s_datasets.parts.weights import WEIGHTS

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class Settings:
    """The numbers in which the families differ; see `FlowEdit`."""

    num_inference_steps: int
    n_max: int
    source_guidance_scale: float
    target_guidance_scale: float
    max_sequence_length: int


FAMILIES: dict[str, tuple[type[FlowModel], Settings]] = {
    "StableDiffusion3Pipeline": (SD3, Settings(50, 33, 3.5, 13.5, 256)),
    "FluxPipeline": (Flux, Settings(28, 24, 1.5, 5.5, 512)),
}
"""By the class that a checkpoint's `model_index.json` names."""


def velocity_edit(
    x_src: torch.Tensor,
    source: Condition,
    target: Condition,
    velocity: Callable[..., Sequence[torch.Tensor]],
    sigmas: torch.Tensor,
    noise: Callable[[], torch.Tensor],
    n_avg: int = 1,
    n_min: int = 0,
    n_max: int = 33,
) -> torch.Tensor:
    """The edited latents, float32 of x_src's shape: algorithm 1 of the paper.

    Args:
        x_src: (N, ...) latents of the source pictures.
        source, target: what the velocities of the N rows are steered by.
        velocity: (t, (z, condition), ...) to one velocity per pair, such as `FlowModel.velocity`.
        sigmas: (T + 1,) falling noise levels in [0, 1], the last one 0.
        noise: fresh standard normal noise of x_src's shape at every call.
        n_avg: draws of noise per step, whose velocities are averaged.
        n_min: of the steps, the last ones that sample from the target alone.
        n_max: of the steps, the last ones that do anything.
    """
    steps = len(sigmas) - 1
    first, n_min = min(n_max, steps), min(n_min, n_max, steps)
    z_edit = x_src.float()
    for left in range(first, 0, -1):  # steps that are left, this one among them
        t, t_next = sigmas[steps - left], sigmas[steps - left + 1]
        if left == n_min:
            z_edit = z_edit + (noised(x_src, noise(), t) - x_src)
        if left > n_min:
            change = x_src.new_zeros(x_src.shape).float()
            for _ in range(n_avg):
                z_src = noised(x_src, noise(), t)
                z_tar = z_src + (z_edit - x_src)
                v_src, v_tar = velocity(t, (z_src, source), (z_tar, target))
                change += (v_tar - v_src) / n_avg
        else:
            (change,) = velocity(t, (z_edit, target))
        z_edit = z_edit + (t_next - t) * change
    return z_edit


def noised(x: torch.Tensor, noise: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
    """x at the noise level t, on the straight path of flow matching."""
    return (1 - t) * x + t * noise


@dataclass(frozen=True)
class FlowEdit(DiffusionEditor):
    """Rewrites a picture from what `source_prompt` says to what `target_prompt` says, with SD3, SD3.5 or FLUX.

    The family is told from the checkpoint; every None takes the family's own value, SD3's / FLUX's below. Nothing is
    inverted or trained. Cost per picture: `n_avg · (n_max - n_min) + n_min` passes of the transformer, of 4 rows for
    SD3 (2 in the last `n_min`), 2 for FLUX (1): by default 132 and 48 rows.

    A further attempt (`Edit.strength`) begins a tenth of the steps earlier, at more noise, until it uses all of them.

    Licences: SD3 and SD3.5 weights are under Stability AI's Community License, FLUX.1-dev's are for non-commercial
    use, FLUX.1-schnell's are under Apache-2.0.

    Args:
        model: a Hub id, or a folder in diffusers' layout, of `StableDiffusion3Pipeline` or `FluxPipeline`.
        num_inference_steps: T, steps of the noise schedule; None: 50 / 28.
        n_avg: draws of noise per step, whose velocities are averaged, 1 or more.
        n_min: of the steps, the last ones that sample from the target prompt alone, which changes texture more.
        n_max: of the steps, the last ones that do anything; None: 33 of 50 / 24 of 28, and of another number of steps
            the same share. More changes more; as many as `num_inference_steps` or above keep nothing of the layout.
        source_guidance_scale: None: 3.5 / 1.5.
        target_guidance_scale: None: 13.5 / 5.5.
        negative_prompt: SD3's alone.
        max_sequence_length: tokens that T5 reads, up to 512; None: 256 / 512. CLIP reads 77.

    Raises:
        SetupError: a value that cannot work, or a checkpoint of neither family.

    The other arguments are those of `DiffusionEditor`. Source: arXiv 2412.08629, sections 4 and 5.
    """

    model: str = "stabilityai/stable-diffusion-3-medium-diffusers"
    revision: str | None = WEIGHTS["stabilityai/stable-diffusion-3-medium-diffusers"].revision
    num_inference_steps: int | None = None
    n_avg: int = 1
    n_min: int = 0
    n_max: int | None = None
    source_guidance_scale: float | None = None
    target_guidance_scale: float | None = None
    negative_prompt: str = ""
    max_sequence_length: int | None = None

    multiple: ClassVar[int] = 16
    needs: ClassVar[tuple[str, ...]] = ("target_prompt",)
    pipelines: ClassVar[tuple[str, ...]] = tuple(FAMILIES)

    def family(self) -> tuple[type[FlowModel], Settings]:
        """The checkpoint's family and its values.

        Raises:
            SetupError: it is of no family known here; `MissingWeights` where there is no checkpoint.
        """
        return FAMILIES[self.pipeline_class()]

    def settings(self) -> Settings:
        """The values that were given, and the family's for the others. Raises as `family` does."""
        return self._filled(self.family()[1])

    def check(self) -> None:
        """Raises `SetupError` for a value, a package or weights that are not there; loads no weights."""
        super().check()
        settings = self.settings()
        if self.n_min > settings.n_max:
            raise SetupError(f"n_min={self.n_min}, n_max={settings.n_max}: give 0 <= n_min <= n_max and n_max >= 1")
        if self.negative_prompt and self.family()[0] is Flux:
            raise SetupError("negative_prompt: FLUX takes none, its guidance is distilled; leave it out")

    def check_values(self) -> None:
        """As every diffusion editor's."""
        super().check_values()
        if self.num_inference_steps is not None:
            checks.check_int("num_inference_steps", self.num_inference_steps)
        given = self._filled(FAMILIES["FluxPipeline"][1])  # what was not given is right in every family
        checks.check_int("n_avg", self.n_avg)
        checks.check_int("n_min", self.n_min, 0)
        checks.check_int("n_max", given.n_max)
        checks.check_int("max_sequence_length", given.max_sequence_length, 1, 512)
        for name in ("source_guidance_scale", "target_guidance_scale"):
            checks.check_float(name, getattr(given, name))

    def config(self) -> dict[str, Any]:
        """As every part's, with the family's values where the checkpoint is at hand."""
        try:
            return super().config() | dataclasses.asdict(self.settings())
        except MissingWeights:
            return super().config()

    def pipeline(self, folder: str, **options: Any) -> Any:
        """The diffusers pipeline of a checkpoint."""
        import diffusers

        index = checkpoints.pipeline_index(self.model, self.revision)
        absent = {name: None for name, value in index.items() if value == [None, None]}  # as T5 may be
        return diffusers.DiffusionPipeline.from_pretrained(folder, **absent, **options)

    def around(self, pipeline: Any) -> tuple[FlowModel, Settings]:
        """The model, and the values to use."""
        family, defaults = FAMILIES[type(pipeline).__name__]
        settings = self._filled(defaults)
        negative = None if family is Flux else self.negative_prompt
        return family(pipeline, checkpoints.device(self.device), settings.max_sequence_length, negative), settings

    def run(self, batch: Sequence[Prepared]) -> torch.Tensor:
        """The edited pictures of a batch of one size, (N, 3, H, W) floats in [0, 1] in the order of `batch`."""
        import torch

        model, _ = self.loaded
        with torch.no_grad():
            pictures = model.decode(self.latents(batch))
        model.pipeline.maybe_free_model_hooks()
        return pictures

    def latents(self, batch: Sequence[Prepared]) -> torch.Tensor:
        """The edited latents of a batch of one size, (N, C, H/8, W/8) float32; to be called without gradients."""
        model, _ = self.loaded
        x_src = model.encode(pixels_of(batch))
        sources, edited = generators(batch), x_src.float()
        for strength in {order.edit.strength for order in batch}:
            rows = [i for i, order in enumerate(batch) if order.edit.strength == strength]
            edited[rows] = self._moved(x_src[rows], [batch[i] for i in rows], [sources[i] for i in rows], strength)
        return edited

    def _filled(self, defaults: Settings) -> Settings:
        names = [field.name for field in dataclasses.fields(Settings)]
        given = {name: getattr(self, name) for name in names if getattr(self, name) is not None}
        steps = given.get("num_inference_steps", defaults.num_inference_steps)
        share = math.ceil(defaults.n_max * steps / defaults.num_inference_steps)  # the layout is kept as well as before
        return dataclasses.replace(defaults, **{"n_max": share} | given)

    def _moved(
        self, x_src: torch.Tensor, batch: Sequence[Prepared], sources: Sequence[torch.Generator], strength: int
    ) -> torch.Tensor:
        model, settings = self.loaded
        more = strength * math.ceil(settings.num_inference_steps / 10)
        return velocity_edit(
            x_src,
            model.condition([order.edit.source_prompt for order in batch], settings.source_guidance_scale),
            model.condition([order.edit.target_prompt for order in batch], settings.target_guidance_scale),
            model.velocity,
            model.sigmas(settings.num_inference_steps, x_src),
            lambda: model.noise(x_src, sources),
            self.n_avg,
            self.n_min,
            settings.n_max + more,
        )
