"""A folder of photos in, a dataset that is safe to publish out. No download, no GPU, no account.

python examples/01_folder_to_safe_dataset.py PHOTOS OUT
"""

import sys

from datasets import load_dataset

import u2s_datasets as u2s


def main(photos: str, out: str) -> None:
    """Anonymize a folder and open the result."""
    facts = u2s.run(photos, out, progress=True)
    parts = " + ".join(f"{facts[status]} {status}" for status in ("safe", "anonymized", "withheld"))
    print(f"{facts['rows']} photos = {parts}")

    safe = load_dataset("parquet", data_files=f"{out}/data/*.parquet", split="train")
    print(safe.features)
    print(safe[0]["anonymized_image"], safe[0]["public_caption"])


if __name__ == "__main__":  # worker processes are spawned, so the guard is needed
    if len(sys.argv) != 3:
        sys.exit("usage: python examples/01_folder_to_safe_dataset.py PHOTOS OUT")
    main(*sys.argv[1:])
