"""Runs FaceAnonSimple over a folder. `external.FaceAnonSimple` calls it; this package never imports it.

It is run by the Python 3.8 of that program's own environment, in its checkout, whose modules it imports.

    python face_anon_simple.py INPUT OUTPUT SEEDS [--degree 1.25] [--steps 25] [--guidance 4]
"""

import argparse
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

FACES = "hkung/face-anon-simple"
DIFFUSION = "stabilityai/stable-diffusion-2-1"
CLIP = "openai/clip-vit-large-patch14"
SIZE = 512  # what its weights were trained on


def main() -> None:
    """Write OUTPUT/NAME.png for every INPUT/NAME.png, each with the seed that SEEDS has for its name."""
    parser = argparse.ArgumentParser()
    parser.add_argument("input", type=Path)
    parser.add_argument("output", type=Path)
    parser.add_argument("seeds", type=Path)
    parser.add_argument("--degree", type=float, default=1.25)
    parser.add_argument("--steps", type=int, default=25)
    parser.add_argument("--guidance", type=float, default=4.0)
    options = parser.parse_args()
    sys.path[0] = str(Path.cwd())  # the checkout, instead of the folder of this file

    import torch
    from face_alignment import FaceAlignment, LandmarksType
    from PIL import Image
    from utils.anonymize_faces_in_image import anonymize_faces_in_image

    device = "cuda" if torch.cuda.is_available() else "cpu"
    pipe = load_pipeline().to(device)
    model = FaceAlignment(LandmarksType.TWO_D, face_detector="sfd", device=device)
    # Without a face, face_alignment answers None, and that program loops over the answer.
    finder = SimpleNamespace(get_landmarks=lambda image: model.get_landmarks(image) or [])
    for line in options.seeds.read_text().splitlines():
        name, seed = line.split()
        anonymize_faces_in_image(
            image=Image.open(options.input / (name + ".png")).convert("RGB"),
            face_alignment=finder,
            pipe=pipe,
            generator=torch.Generator().manual_seed(int(seed)),
            face_image_size=SIZE,
            num_inference_steps=options.steps,
            guidance_scale=options.guidance,
            anonymization_degree=options.degree,
        ).save(options.output / (name + ".png"))


def load_pipeline() -> Any:
    """Its pipeline from the weights that its authors name."""
    from diffusers import AutoencoderKL, DDPMScheduler
    from src.diffusers.models.referencenet.referencenet_unet_2d_condition import ReferenceNetModel
    from src.diffusers.models.referencenet.unet_2d_condition import UNet2DConditionModel
    from src.diffusers.pipelines.referencenet.pipeline_referencenet import StableDiffusionReferenceNetPipeline
    from transformers import CLIPImageProcessor, CLIPVisionModel

    return StableDiffusionReferenceNetPipeline(
        unet=UNet2DConditionModel.from_pretrained(FACES, subfolder="unet", use_safetensors=True),
        referencenet=ReferenceNetModel.from_pretrained(FACES, subfolder="referencenet", use_safetensors=True),
        conditioning_referencenet=ReferenceNetModel.from_pretrained(
            FACES, subfolder="conditioning_referencenet", use_safetensors=True
        ),
        vae=AutoencoderKL.from_pretrained(DIFFUSION, subfolder="vae", use_safetensors=True),
        feature_extractor=CLIPImageProcessor.from_pretrained(CLIP),
        image_encoder=CLIPVisionModel.from_pretrained(CLIP, use_safetensors=True),
        scheduler=DDPMScheduler.from_pretrained(DIFFUSION, subfolder="scheduler"),
    )


if __name__ == "__main__":
    main()
