"""Law 5, same inputs, same planned noise: batches, order, workers and files' bytes change nothing."""

import numpy as np
from datasets import load_dataset
from PIL import Image

import u2s_datasets as u2s
from tests.helpers.fakes import picture
from tests.helpers.hostile_images import encoded, exif_block, photo, stored_turned
from tests.helpers.run_files import QUICK, files_of, private_rows, public_rows
from tests.helpers.steps import anonymize, pixels, stored
from u2s_datasets import columns as c
from u2s_datasets import images
from u2s_datasets.images import decode
from u2s_datasets.stages.inspect import Inspect


def test_seed_is_of_the_picture_and_not_of_the_file() -> None:
    plain = encoded(photo(), "PNG")
    turned = encoded(stored_turned(photo(), 6), "PNG", exif=exif_block(6), compress_level=0)
    seed = images.content_seed(decode(plain).pixels, 7)
    assert images.content_seed(decode(turned).pixels, 7) == seed
    assert 0 <= seed < 2**63
    other = np.array(photo())
    other[60, 80, 1] ^= 1
    different = [images.content_seed(photo(), 8), images.content_seed(Image.fromarray(other), 7)]
    flat = [images.content_seed(Image.new("RGB", size), 7) for size in ((2, 6), (6, 2), (3, 4))]
    assert len({seed, *different, *flat}) == 6
    # Planned noise must not change between versions of this package.
    assert images.content_seed(Image.new("RGB", (2, 1), (1, 2, 3)), 0) == 566618687709171721


def test_order_and_batch_size_change_nothing():
    pictures = [picture(red=i % 2 == 0, seed=i) for i in range(5)]
    together = anonymize(pictures, seed=7)
    for i in (4, 2, 0, 3, 1):
        alone = anonymize([pictures[i]], seed=7)
        assert np.array_equal(pixels(alone, 0), pixels(together, i))
        assert alone[c.SEED][0] == together[c.SEED][i]
    assert anonymize(pictures, seed=8)[c.SEED][0] != together[c.SEED][0]


def test_two_processes_give_what_one_gives(photos):
    ds = load_dataset("imagefolder", data_dir=str(photos), split="train")
    step = u2s.Anonymize(inspect=Inspect(detectors=(u2s.Faces(),)))
    one = ds.map(step, batched=True, batch_size=2)
    two = ds.map(step, batched=True, batch_size=3, with_rank=True, num_proc=2)  # forks after the models were used
    assert stored(one, c.ANONYMIZED_IMAGE) == stored(two, c.ANONYMIZED_IMAGE)
    assert one[c.PROVENANCE] == two[c.PROVENANCE]


def test_same_secret_same_bytes_for_any_number_of_workers(red_folder, tmp_path):
    (tmp_path / "key").write_text("0123456789abcdef" * 4)
    runs = []
    for name, workers in (("one", 1), ("three", 3)):
        options = {**QUICK, "num_proc": workers, "secret": tmp_path / "key", "shard_size": 16}
        u2s.run(red_folder, tmp_path / name, **options)
        runs.append(files_of(tmp_path / name))
    assert runs[0] == runs[1]
    assert not (tmp_path / "one/private/secret").exists()


def test_a_run_and_a_single_call_plan_the_same_seeds_and_write_the_same_pixels(tmp_path):
    photos = [picture(red=i < 2, seed=i) for i in range(3)]
    (tmp_path / "in").mkdir()
    for i, image in enumerate(photos):
        image.save(tmp_path / f"in/{i}.png", compress_level=9 - i)
    u2s.run(tmp_path / "in", tmp_path / "out", seed=7, format="png", **QUICK)
    rows = private_rows(tmp_path / "out")
    published = {row[c.ROW_ID]: decode(row[c.ANONYMIZED_IMAGE]).pixels for row in public_rows(tmp_path / "out")}
    called = anonymize(photos, seed=7)
    assert [row[c.SEED] for row in rows[:2]] == called[c.SEED][:2] and len(set(called[c.SEED][:2])) == 2
    assert all(np.array_equal(published[row[c.ROW_ID]], pixels(called, i)) for i, row in enumerate(rows))
