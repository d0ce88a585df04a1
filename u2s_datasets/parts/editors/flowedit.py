"""FlowEdit: the image moves along the difference of two velocities, one towards each prompt, without inversion.

Kulikov et al., "FlowEdit: Inversion-Free Text-Based Editing Using Pre-Trained Flow Models", arXiv 2412.08629.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, fields, replace
from typing import TYPE_CHECKING, Any, ClassVar

from u2s_datasets.errors import MissingWeights, SetupError
from u2s_datasets.parts import checkpoints, checks
from u2s_datasets.parts.editors.diffusion import Batch, DiffusionEditor, make_generators, stack_pixels
from u2s_datasets.parts.editors.flow_models import SD3, Condition, FlowModel, Flux
from u2s_datasets.parts.weights import WEIGHTS

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class Settings:
    """The numbers of one edit; see `FlowEdit`. The families differ in those without a default."""

    num_inference_steps: int
    n_max: int
    source_guidance_scale: float
    target_guidance_scale: float
    max_sequence_length: int
    n_min: int = 0
    n_avg: int = 1


FAMILIES: dict[str, tuple[type[FlowModel], Settings]] = {
    "StableDiffusion3Pipeline": (SD3, Settings(50, 33, 3.5, 13.5, 256)),
    "FluxPipeline": (Flux, Settings(28, 24, 1.5, 5.5, 512)),
}  # by the class that a checkpoint's `model_index.json` names


def velocity_edit(
    x_src: torch.Tensor,
    source: Condition,
    target: Condition,
    velocity: Callable[..., Sequence[torch.Tensor]],
    sigmas: torch.Tensor,
    noise: Callable[[], torch.Tensor],
    settings: Settings,
) -> torch.Tensor:
    """The edited latents, float32 of x_src's shape: algorithm 1 of the paper.

    Args:
        x_src: (N, ...) latents of the source images.
        source, target: what steers the velocities of the N rows.
        velocity: (t, (z, condition), ...) to one velocity per pair, such as `FlowModel.velocity`.
        sigmas: (T + 1,) falling noise levels in [0, 1], the last one 0.
        noise: fresh standard normal noise of x_src's shape at every call.
        settings: of which n_max, n_min and n_avg are used.
    """
    steps = len(sigmas) - 1
    first, n_min = min(settings.n_max, steps), min(settings.n_min, settings.n_max, steps)
    z_edit = x_src.float()
    for left in range(first, 0, -1):  # steps that are left, this one included
        t, t_next = sigmas[steps - left], sigmas[steps - left + 1]
        if left == n_min:
            z_edit = z_edit + (add_noise(x_src, noise(), t) - x_src)
        if left > n_min:
            change = x_src.new_zeros(x_src.shape).float()
            for _ in range(settings.n_avg):
                z_src = add_noise(x_src, noise(), t)
                z_tar = z_src + (z_edit - x_src)
                v_src, v_tar = velocity(t, (z_src, source), (z_tar, target))
                change += (v_tar - v_src) / settings.n_avg
        else:
            (change,) = velocity(t, (z_edit, target))
        z_edit = z_edit + (t_next - t) * change
    return z_edit


def add_noise(x: torch.Tensor, noise: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
    """x at the noise level t, on the straight path of flow matching."""
    return (1 - t) * x + t * noise


@dataclass(frozen=True)
class FlowEdit(DiffusionEditor):
    """Rewrites an image from what `source_prompt` says to what `target_prompt` says, with SD3, SD3.5 or FLUX.

    The family is read from the checkpoint; None takes the family's own value, given below as SD3's / FLUX's. Nothing
    is inverted or trained. Cost per image: `n_avg · (n_max - n_min) + n_min` passes of the transformer, of 4 rows for
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
        negative_prompt: for SD3 only.
        max_sequence_length: tokens that T5 reads, up to 512; None: 256 / 512. CLIP reads 77.

    Raises:
        SetupError: an invalid value, or a checkpoint of neither family.

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
    limits = DiffusionEditor.limits | {
        "num_inference_steps": checks.check_int,
        "n_avg": checks.check_int,
        "n_min": lambda name, value: checks.check_int(name, value, 0),
        "n_max": checks.check_int,
        "source_guidance_scale": checks.check_float,
        "target_guidance_scale": checks.check_float,
        "max_sequence_length": lambda name, value: checks.check_int(name, value, 1, 512),
    }
    pipelines: ClassVar[tuple[str, ...]] = tuple(FAMILIES)

    def settings(self) -> Settings:
        """The values that were given, and the family's for the others; raises as `pipeline_class` does."""
        return self._fill_in(FAMILIES[self.pipeline_class()][1])

    def check(self) -> None:
        """Raise `SetupError` for an invalid value, a missing package, device or checkpoint; loads no weights."""
        super().check()
        settings = self.settings()
        if self.n_min > settings.n_max:
            raise SetupError(f"n_min={self.n_min} is above n_max={settings.n_max}; expected 0 <= n_min <= n_max")
        if self.negative_prompt and self.pipeline_class() == "FluxPipeline":
            raise SetupError(
                f"unsupported negative_prompt={self.negative_prompt!r}: FLUX takes none, its guidance is distilled; "
                "leave it out"
            )

    def config(self) -> dict[str, Any]:
        """The constructor arguments, with the family's values if the checkpoint is here."""
        try:
            return super().config() | asdict(self.settings())
        except MissingWeights:
            return super().config()

    def _fill_in(self, defaults: Settings) -> Settings:
        names = [field.name for field in fields(Settings)]
        given = {name: getattr(self, name) for name in names if getattr(self, name) is not None}
        steps = given.get("num_inference_steps", defaults.num_inference_steps)
        # The same share of another number of steps, so that as much of the layout is kept.
        n_max = math.ceil(defaults.n_max * steps / defaults.num_inference_steps)
        return replace(defaults, **{"n_max": n_max} | given)

    def wrap_pipeline(self, pipeline: Any) -> tuple[FlowModel, Settings]:
        """The model, and the values to use."""
        family, defaults = FAMILIES[type(pipeline).__name__]
        settings = self._fill_in(defaults)
        negative = None if family is Flux else self.negative_prompt
        return family(pipeline, checkpoints.device(self.device), settings.max_sequence_length, negative), settings

    def run_pass(self, batch: Batch) -> torch.Tensor:
        """As `run`, for orders that share one `Edit.strength`; called without gradients."""
        return self.loaded[0].decode(self.latents(batch))

    def latents(self, batch: Batch) -> torch.Tensor:
        """The edited latents, (N, C, H/8, W/8) float32, of a batch as `run_pass` takes it."""
        model, settings = self.loaded
        x_src, sources = model.encode(stack_pixels(batch)), make_generators(batch)
        earlier = batch[0].edit.strength * math.ceil(settings.num_inference_steps / 10)
        return velocity_edit(
            x_src,
            model.condition([order.edit.source_prompt for order in batch], settings.source_guidance_scale),
            model.condition([order.edit.target_prompt for order in batch], settings.target_guidance_scale),
            model.velocity,
            model.sigmas(settings.num_inference_steps, x_src),
            lambda: model.noise(x_src, sources),
            replace(settings, n_max=settings.n_max + earlier),
        )
