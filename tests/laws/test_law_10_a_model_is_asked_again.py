"""Law 10: what a model alone flagged is asked of a model again, item by item, or the row is withheld."""

import json
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pytest
from PIL import Image

import u2s_datasets as u2s
from tests.helpers.fakes import RedSquares, picture
from tests.helpers.steps import anonymize
from u2s_datasets import columns as c
from u2s_datasets.errors import EditFailed, PartlyFailed
from u2s_datasets.executor.pipeline import Pipeline
from u2s_datasets.executor.pools import PoolWork
from u2s_datasets.parts import Backend, Detector, Edit, Editor

COLOURS = {"a green ball": (0, 255, 0), "a blue card": (0, 0, 255)}


@dataclass(frozen=True)
class Seeing(Backend):
    """Sees coloured things, and of a pair whether the one in question is still in its second image.

    Args:
        says: "truth", or what it says of every pair, whatever it shows.
    """

    says: str = "truth"

    def choose(self, requests, choices):
        return [self._one(request.messages[0].content) for request in requests]

    def generate(self, requests):
        raise AssertionError("nobody asks for words here")

    def _one(self, content):
        *shown, question = content
        if len(shown) == 1:
            return _sure(any(_holds(shown[0], colour) for colour in COLOURS.values()))
        if self.says != "truth":
            return _sure(self.says == "still there")
        asked = [name for name in COLOURS if name in question] or list(COLOURS)
        return _sure(any(_holds(shown[1], COLOURS[name]) for name in asked))


def _sure(true):
    return {"TRUE": float(true), "FALSE": float(not true)}


def _holds(image, colour):
    return bool((np.asarray(image) == colour).all(axis=2).any())


@dataclass(frozen=True)
class Repaint(Editor):
    """Paints noise over everything, but leaves what has one of these colours."""

    keeps: tuple[tuple[int, int, int], ...] = ()

    def edit(self, edits: Sequence[Edit]) -> list[Image.Image]:
        return [Image.fromarray(self._one(np.asarray(e.image), e.seed)) for e in edits]

    def _one(self, before, seed):
        after = np.random.default_rng(seed).integers(0, 200, before.shape, dtype=np.uint8)
        for colour in self.keeps:
            kept = (before == colour).all(axis=2)
            after[kept] = colour
        return after


def scene(*names):
    image = picture()
    for i, name in enumerate(names):
        image.paste(COLOURS[name], (10 + 40 * i, 30, 30 + 40 * i, 50))
    return image


def review(*items):
    return [c.review_item("belongings", item, "a model said so", None, 0.9) for item in items]


def rewritten(image, *items, says="truth", detectors: tuple[Detector, ...] = (), **options):
    options = {"inspect": u2s.Inspect(detectors=detectors, backend=Seeing(says)), "editor": Repaint()} | options
    given = {c.PRIVACY_FLAG: [True], c.PRIVACY_SCORE: [1.0], c.PRIVACY_REVIEW: [review(*items)]} if items else {}
    step = u2s.Anonymize(**{"format": "png", "attempts": 2, **options})
    answer = step({"image": [image], **given})
    return answer[c.STATUS][0], (answer[c.NOTE][0] or "").split(":")[0], json.loads(answer[c.PROVENANCE][0])


def test_what_is_gone_is_published_and_verified():
    for items in ((), ("a green ball",), ("a green ball", "a blue card")):
        status, _, facts = rewritten(scene("a green ball", "a blue card"), *items)
        assert (status, facts["verified"], len(facts["attempts"])) == (c.ANONYMIZED, True, 1)


def test_one_item_that_is_still_there_withholds_the_row():
    both = scene("a green ball", "a blue card")
    half = Repaint((COLOURS["a blue card"],))
    assert rewritten(both, "a green ball", "a blue card", editor=half)[:2] == (c.WITHHELD, "residue")
    assert rewritten(both, editor=half)[:2] == (c.WITHHELD, "residue")  # the model itself flagged, without a name
    assert rewritten(both, "a green ball", editor=half)[0] == c.ANONYMIZED


@pytest.mark.parametrize("says", ["still there", "gone"])
def test_a_model_that_says_the_same_of_every_pair_proves_nothing(says):
    status, code, _ = rewritten(scene("a green ball"), says=says)
    assert (status, code) == (c.WITHHELD, "unproven")


def test_without_a_model_the_row_is_withheld_unless_nobody_looks():
    no_model = u2s.Inspect(detectors=(RedSquares(),))
    status, code, _ = rewritten(scene("a green ball"), "a green ball", inspect=no_model)
    assert (status, code) == (c.WITHHELD, "unproven")
    status, _, facts = rewritten(scene("a green ball"), "a green ball", inspect=no_model, verify=False)
    assert (status, facts["verified"]) == (c.ANONYMIZED, False)
    status, _, facts = rewritten(scene("a green ball"), "a green ball", inspect=no_model, judge=Seeing())
    assert (status, facts["verified"]) == (c.ANONYMIZED, True)


def test_a_flag_that_somebody_gave_without_a_word_is_asked_about_too():
    step = u2s.Anonymize(inspect=u2s.Inspect(detectors=(RedSquares(),)), editor=Repaint())
    answer = step({"image": [picture()], c.PRIVACY_FLAG: [True]})
    assert answer[c.STATUS] == [c.WITHHELD] and answer[c.NOTE][0].startswith("unproven")


def test_detectors_do_not_answer_for_what_the_model_saw():
    red = scene("a green ball")
    red.paste((255, 0, 0), (60, 2, 84, 26))
    kept = Repaint((COLOURS["a green ball"],))
    assert rewritten(red, detectors=(RedSquares(),), editor=kept)[:2] == (c.WITHHELD, "residue")
    assert rewritten(red, detectors=(RedSquares(),))[0] == c.ANONYMIZED


@dataclass(frozen=True)
class Choosy(Seeing):
    """Fails some rows of a batch and answers the others, as a part may."""

    answer: object = None

    def choose(self, requests, choices):
        answers = super().choose(requests, choices)
        if len(requests) == 1:
            return answers
        raise PartlyFailed([EditFailed("no"), *([self.answer] if self.answer else answers[1:2]), *answers[2:]])


@pytest.mark.parametrize("answer", [None, "FALSE", 0.0, {"FALSE": 2.0}])
def test_a_backend_that_fails_some_rows_fails_them_alone(answer):
    inspect = u2s.Inspect(detectors=(), backend=Choosy(answer=answer))
    made = anonymize([picture(), picture(), picture()], inspect=inspect)
    assert made[c.STATUS] == [c.WITHHELD, c.WITHHELD if answer else c.SAFE, c.SAFE]


@dataclass(frozen=True)
class Half(RedSquares):
    """Gives no answer for the second of several images, and says that the first failed."""

    def detect(self, images):
        raise PartlyFailed([EditFailed("no"), None, *([] for _ in images[2:])])


def test_a_detector_that_fails_some_rows_does_not_clear_the_others():
    made = anonymize([picture(), picture(red=True), picture()], inspect=u2s.Inspect(detectors=(Half(),)))
    assert made[c.STATUS] == [c.WITHHELD, c.WITHHELD, c.SAFE]


def test_the_pool_that_edits_loads_the_model_that_looks_again():
    for verify in (True, False):
        step = u2s.Anonymize(inspect=u2s.Inspect(backend=Seeing()), editor=Repaint(), verify=verify)
        pool = PoolWork(Pipeline(u2s.Profile("models", step, u2s.Score(inspect=None)), b"0" * 16), "anonymize")
        assert any(isinstance(part, Seeing) for part in pool.parts()) is verify
