"""Stage 1 with a model, dry: every answer is scripted, so that the whole chain can be seen without any weights.

python examples/03_models.py PHOTOS

With a model of your own put `u2s.TransformersBackend(...)`, `u2s.VLLMBackend(...)` or `u2s.OpenAIBackend(...)` in its
place; nothing else changes.
"""

import sys

from datasets import load_dataset

import u2s_datasets as u2s

# The first pattern that is found in a question answers it; the questions' texts are in u2s_datasets/stages/prompts.
MODEL = u2s.Scripted(
    answers=(
        (r"#8e6a60[\s\S]*PRIVACY_FLAG", {"TRUE": 0.97, "FALSE": 0.02}),  # the photo, known by its mean colour
        ("PRIVACY_FLAG", {"TRUE": 0.05, "FALSE": 0.94}),  # asked again, of the redacted photo
        (
            "prepare a photo for publication",
            "PRIVACY_REVIEW\nITEM: an orange flight suit\nCATEGORY: people\nREASON: tells the job\n"
            "PRIVATE_CAPTION\nA smiling astronaut in an orange flight suit before a flag.\n"
            "PUBLIC_CAPTION\nA smiling person stands in front of a wall.",
        ),
        ("going to be edited", "Give the person short grey hair, older features and a red coat; make the wall plain."),
        ("is then edited", "An older person with short grey hair in a red coat smiles in front of a plain wall."),
    )
)


def main(photos: str) -> None:
    """Inspect, caption and instruct one photo, and print what may be published and what may not."""
    mine = u2s.load_criteria(["people", "text", "pets: animals that live with somebody"])
    step = u2s.Anonymize(
        inspect=u2s.Inspect(backend=MODEL, criteria=mine, threshold=0.2),
        caption=u2s.Caption(backend=MODEL, criteria=mine),
        instruct=u2s.Instruct(backend=MODEL, criteria=mine),
    )
    ds = load_dataset("imagefolder", data_dir=photos, split="train").select(range(1))
    row = ds.map(step, batched=True)[0]
    for column in ("privacy_flag", "public_caption", "edit_instruction", "edit_caption", "anonymization_status"):
        print(f"public   {column}: {row[column]}")
    for column in ("privacy_score", "private_caption"):
        print(f"private  {column}: {row[column]}")


if __name__ == "__main__":
    main(sys.argv[1])
