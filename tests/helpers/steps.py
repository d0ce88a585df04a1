"""One batch through `Anonymize`, with the detector that sees red squares."""

import numpy as np

import u2s_datasets as u2s
from tests.helpers.fakes import RedSquares
from u2s_datasets import columns as c
from u2s_datasets.stages.inspect import Inspect

RED = Inspect(detectors=(RedSquares(),))


def anonymize(pictures, **options):
    step = u2s.Anonymize(**{"inspect": RED, "format": "png", **options})
    return step({"image": list(pictures)})


def pixels(answer, i):
    return np.asarray(answer[c.ANONYMIZED_IMAGE][i])


def stored(ds, column="image") -> list:
    return ds.with_format("arrow")[:][column].to_pylist()
