"""The same steps on any dataset, one `.map` each.

python examples/02_map.py PHOTOS
"""

import sys

from datasets import load_dataset

import u2s_datasets as u2s


def main(photos: str) -> None:
    """Anonymize a folder as a dataset and print what was done."""
    ds = load_dataset("imagefolder", data_dir=photos, split="train")
    ds = ds.map(u2s.anonymize, batched=True, batch_size=16)  # runs inspect, caption and instruct first
    ds = ds.map(u2s.score, batched=True, batch_size=16)
    print(u2s.report(ds))

    pixelate = u2s.Anonymize(editor=u2s.Redact(method="pixelate"), seed=7)
    other = ds.select(range(1)).select_columns(["image"]).map(pixelate, batched=True)
    print(other[0]["anonymization_status"], other[0]["edit_instruction"])


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: python examples/02_map.py PHOTOS")
    main(sys.argv[1])
