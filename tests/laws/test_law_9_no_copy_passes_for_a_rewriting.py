"""Law 9, no copy passes for a rewriting: what stood in a detection must not come back, however it was changed."""

import json
import tracemalloc
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import cv2
import numpy as np
import pytest
import skimage.data
from PIL import Image

import u2s_datasets as u2s
from tests.helpers.people import crowd, places
from tests.helpers.slow import mostly_slow
from tests.helpers.steps import pixels
from u2s_datasets import columns as c
from u2s_datasets import images
from u2s_datasets.images import copies
from u2s_datasets.images.originals import Originals
from u2s_datasets.parts import Detection, Detector, Edit, Editor
from u2s_datasets.publish.candidate import Candidate
from u2s_datasets.publish.gate import PublishGate
from u2s_datasets.stages import residue
from u2s_datasets.stages.inspect import Inspect

FACE = (170.0, 70.0, 280.0, 190.0)  # of the astronaut, tight
ASTRONAUT = skimage.data.astronaut()
HALF = np.ascontiguousarray(cv2.resize(ASTRONAUT, (256, 256), interpolation=cv2.INTER_AREA))
SIZES = {1: FACE, 2: tuple(v / 2 for v in FACE), 4: tuple(v / 4 for v in FACE)}


def smaller(pixels: np.ndarray, times: int) -> np.ndarray:
    """A picture of 1 / times the size: its face of 115 px gets 57 or 29."""
    side = 512 // times
    return cv2.resize(pixels, (side, side), interpolation=cv2.INTER_AREA)


def warped(pixels: np.ndarray, turn: float = 0.0, scale: float = 1.0, perspective: float = 0.0) -> np.ndarray:
    """Turned and zoomed about the middle, seen from aside."""
    side = pixels.shape[0]
    matrix = np.vstack([cv2.getRotationMatrix2D((side / 2, side / 2), turn, scale), [0, 0, 1]])
    square = np.array([[0, 0], [side, 0], [side, side], [0, side]], np.float32)
    aside = square + np.array([[1, 1], [-0.3, 0.5], [0, 0], [0, -1]], np.float32) * perspective * side
    matrix = cv2.getPerspectiveTransform(square, aside) @ matrix
    return cv2.warpPerspective(pixels, matrix, (side, side), borderMode=cv2.BORDER_REFLECT)


def shuffled(pixels: np.ndarray) -> np.ndarray:
    """Cut into 2 by 2 tiles, each of which goes to the opposite corner."""
    return np.roll(pixels, [side // 2 for side in pixels.shape[:2]], (0, 1))


def noisy(pixels: np.ndarray, deviation: float = 40.0) -> np.ndarray:
    noise = np.random.default_rng(1).normal(0, deviation, pixels.shape)
    return np.clip(pixels + noise, 0, 255).astype(np.uint8)


def sharpened(pixels: np.ndarray) -> np.ndarray:
    return cv2.addWeighted(pixels, 4, cv2.GaussianBlur(pixels, (0, 0), 2), -3, 0)


def hue_turned(pixels: np.ndarray) -> np.ndarray:
    hsv = cv2.cvtColor(pixels, cv2.COLOR_RGB2HSV)
    hsv[..., 0] = (hsv[..., 0].astype(int) + 60) % 180
    return cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB)


def mixed(pixels: np.ndarray) -> np.ndarray:
    cat = cv2.resize(skimage.data.chelsea(), pixels.shape[1::-1])
    return cv2.addWeighted(pixels, 0.5, cat, 0.5, 0)


def colour_map(name: int) -> Callable[[np.ndarray], np.ndarray]:
    return lambda pixels: cv2.applyColorMap(cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY), name)


LIES: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    **{f"shifted by {by}": lambda p, by=by: np.roll(p, (by, by), (0, 1)) for by in (1, 2, 4, 8, 16)},
    "mirrored": lambda p: p[:, ::-1],
    "upside down": lambda p: p[::-1],
    **{f"turned by {by}": lambda p, by=by: warped(p, by) for by in (5, -15, 30, 90, 180)},
    **{f"zoomed by {by}": lambda p, by=by: warped(p, scale=by) for by in (0.5, 0.75, 1.05, 1.3, 2.0)},
    "stretched": lambda p: cv2.resize(p, None, fx=1.35, fy=1)[:, p.shape[1] // 6 :][:, : p.shape[1]],
    "tiles shuffled": shuffled,
    "face alone": lambda p: cv2.resize(
        p[p.shape[0] // 9 : p.shape[0] * 2 // 5, p.shape[0] // 3 :][:, : p.shape[0] // 4], p.shape[1::-1]
    ),
    "perspective": lambda p: warped(p, perspective=0.08),
    "transposed": lambda p: p.transpose(1, 0, 2),
    "inverted": lambda p: 255 - p,
    "dark": lambda p: (255 * (p / 255) ** 2.5).astype(np.uint8),
    "posterised": lambda p: p // 64 * 64 + 32,
    "solarised": lambda p: np.where(p < 128, p, 255 - p),
    "grey": lambda p: np.repeat(p[..., 1:2], 3, axis=2),
    "red alone": lambda p: p * np.array([1, 0, 0], np.uint8),
    "channels swapped": lambda p: p[..., ::-1],
    "hue turned": hue_turned,
    "jet": colour_map(cv2.COLORMAP_JET),
    "rainbow": colour_map(cv2.COLORMAP_HSV),
    "sharpened": sharpened,
    "blurred": lambda p: cv2.GaussianBlur(p, (0, 0), p.shape[0] / 100),
    "noisy": noisy,
    "shifted and noisy": lambda p: noisy(np.roll(p, 6, 1), 25),
    "mirrored and inverted": lambda p: 255 - p[:, ::-1],
    "half a cat": mixed,
    "half black": lambda p: p // 2,
    "faint": lambda p: (120 + p / 16).astype(np.uint8),
}


@dataclass(frozen=True)
class AstronautsFace(Detector):
    """Knows where the astronaut's face is, and finds none in what an editor made of it."""

    categories = ("face",)
    flag_threshold: float = 0.5
    times: int = 1

    def detect(self, images: Sequence[np.ndarray]) -> list[list[Detection]]:
        known = smaller(ASTRONAUT, self.times)
        return [[Detection("face", SIZES[self.times], 0.9)] if np.array_equal(i, known) else [] for i in images]


@dataclass(frozen=True)
class Lying(Editor):
    """A rewriting editor that gives the original back, changed in one way."""

    how: str = ""

    def edit(self, edits: Sequence[Edit]) -> list[Image.Image]:
        return [Image.fromarray(np.ascontiguousarray(LIES[self.how](np.asarray(e.image)))) for e in edits]


@pytest.mark.parametrize("times", mostly_slow(SIZES, 2))
@pytest.mark.parametrize("lie", LIES)
def test_a_copy_is_found_whatever_was_done_to_it(lie, times):
    before = smaller(ASTRONAUT, times)
    after = np.ascontiguousarray(LIES[lie](before))
    face = Detection("face", SIZES[times], 1.0)
    assert residue.find_residue([], before, after, [face], absolute=False) == [face]


@pytest.mark.parametrize(
    "lie", mostly_slow(["shifted by 8", "mirrored", "inverted", "noisy", "half a cat", "turned by 30"], "mirrored")
)
def test_a_lying_editor_never_gets_its_copy_published(lie):
    """Its picture is redacted at its face and elsewhere a copy: the same person is nowhere to be seen."""
    step = u2s.Anonymize(inspect=Inspect(detectors=(AstronautsFace(times=2),)), editor=Lying(lie), format="png")
    answer = step({"image": [Image.fromarray(HALF)]})
    if answer[c.STATUS] == [c.ANONYMIZED]:
        assert copies.find_copies(HALF, pixels(answer, 0), [SIZES[2]]) == [False]
    else:
        assert answer[c.STATUS] == [c.WITHHELD]


def rewritten(pixels: np.ndarray, box: tuple[float, ...], how: str) -> np.ndarray:
    """A face replaced by something else at its place, hair and ears included."""
    x0, y0, x1, y1 = (round(v) for v in images.clip_box(images.grow_head(box), pixels.shape[1::-1]))
    after, size = pixels.copy(), (x1 - x0, y1 - y0)
    if how == "inpainted":
        mask = np.zeros(pixels.shape[:2], np.uint8)
        mask[y0:y1, x0:x1] = 1
        return cv2.inpaint(pixels, mask, 3, cv2.INPAINT_TELEA)
    other = {
        "cat": skimage.data.chelsea()[40:240, 100:330],
        "gravel": np.repeat(skimage.data.gravel()[..., None], 3, 2),
    }
    after[y0:y1, x0:x1] = cv2.resize(other[how], size, interpolation=cv2.INTER_AREA)
    return after


@pytest.mark.parametrize("times", SIZES)
@pytest.mark.parametrize("how", ["cat", "gravel", "inpainted"])
def test_a_rewriting_passes(how, times):
    before, face = smaller(ASTRONAUT, times), Detection("face", SIZES[times], 1.0)
    after = rewritten(before, SIZES[times], how)
    assert residue.find_residue([], before, after, [face], absolute=False) == []


def test_half_a_face_is_a_copy_too():
    after = rewritten(ASTRONAUT, FACE, "cat")
    after[:130] = ASTRONAUT[:130]
    assert copies.find_copies(ASTRONAUT, after, [FACE]) == [True]


@pytest.mark.parametrize("how", ["as it was", "mirrored", "upside down", "inverted"])
def test_a_face_that_went_far_away_over_the_same_background_is_a_copy(how):
    after = rewritten(ASTRONAUT, FACE, "gravel")
    x0, y0, x1, y1 = (int(v) for v in FACE)
    face = ASTRONAUT[y0:y1, x0:x1]
    after[360:480, 380:490] = face if how == "as it was" else LIES[how](face)
    assert copies.find_copies(ASTRONAUT, after, [FACE]) == [True]


def test_a_face_of_another_size_is_found_where_a_detector_saw_something():
    after = rewritten(ASTRONAUT, FACE, "gravel")
    x0, y0, x1, y1 = (int(v) for v in FACE)
    after[350:490, 375:503] = cv2.resize(ASTRONAUT[y0:y1, x0:x1], (128, 140))
    assert copies.find_copies(ASTRONAUT, after, [FACE], [(375, 350, 503, 490)]) == [True]


def test_a_long_strip_is_compared_in_little_memory():
    """It took more than there was: the output was searched in a square as wide as the strip is long."""
    strips = np.random.default_rng(0).integers(0, 256, (2, 20, 3000, 3), np.uint8)
    tracemalloc.start()
    try:
        assert copies.find_copies(*strips, [(0, 0, 3000, 20)]) == [False]
        assert tracemalloc.get_traced_memory()[1] < 400e6
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("scale", [0.5, 1.8])
def test_a_face_of_another_size_in_its_place_is_a_copy(scale):
    after, (x0, y0, x1, y1) = rewritten(ASTRONAUT, FACE, "gravel"), (int(v) for v in FACE)
    face = cv2.resize(ASTRONAUT[y0:y1, x0:x1], None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    top, left = (y0 + y1 - face.shape[0]) // 2, (x0 + x1 - face.shape[1]) // 2
    after[top : top + face.shape[0], left : left + face.shape[1]] = face
    assert copies.find_copies(ASTRONAUT, after, [FACE]) == [True]


def test_of_what_is_too_small_nothing_is_proven():
    box = (200.0, 100.0, 210.0, 112.0)
    after = rewritten(ASTRONAUT, box, "gravel")
    assert copies.find_copies(ASTRONAUT, after, [box, (600, 600, 700, 700)]) == [True, True]


def test_a_line_of_text_is_judged_in_pieces():
    page = np.full((80, 400, 3), 255, np.uint8)
    cv2.putText(page, "Margaret Hollis 81", (20, 48), cv2.FONT_HERSHEY_SIMPLEX, 0.9, (0, 0, 0), 2)
    other = np.full_like(page, 255)
    cv2.putText(other, "Unknown of Nowhere", (20, 48), cv2.FONT_HERSHEY_SIMPLEX, 0.9, (0, 0, 0), 2)
    box = (18.0, 22.0, 310.0, 56.0)
    part = other.copy()
    part[:, :110] = page[:, :110]
    assert copies.find_copies(page, np.roll(page, 7, 0), [box]) == [True]
    assert copies.find_copies(page, part, [box]) == [True]


@pytest.mark.slow
def test_other_people_in_a_wide_picture_are_no_quarter_turn_of_it():
    wide, others = crowd(range(5)), crowd(range(40, 45))
    faces = [d.box for d in u2s.Faces().detect([wide])[0]]
    assert copies.find_copies(wide, others, faces) == [False] * 5


@pytest.mark.parametrize("quarters", mostly_slow([1, 3], 1))
def test_a_quarter_turn_of_a_wide_picture_is_a_copy(quarters):
    wide = crowd(range(5))
    turned = cv2.resize(np.ascontiguousarray(np.rot90(wide, quarters)), wide.shape[1::-1], interpolation=cv2.INTER_AREA)
    assert copies.find_copies(wide, turned, places(5)) == [True] * 5


def line_of_text(back: str, text: str) -> np.ndarray:
    size = (480, 320)
    page = np.full((size[1], size[0], 3), 235, np.uint8)
    if back == "photo":
        page = cv2.resize(skimage.data.coffee(), size, interpolation=cv2.INTER_AREA)
    colour = (250, 250, 250) if back == "photo" else (20, 20, 20)
    return cv2.putText(page, text, (40, 120), cv2.FONT_HERSHEY_SIMPLEX, 0.9, colour, 2)


@pytest.mark.parametrize("back", mostly_slow(["page", "photo"], "page"))
@pytest.mark.parametrize(
    "lie",
    {
        **{name: LIES[name] for name in ("shifted by 4", "mirrored", "upside down", "inverted")},
        "turned by a half": lambda p: p[::-1, ::-1],
        "far down": lambda p: np.roll(p, 110, 0),
        "far away": lambda p: np.roll(p, (100, 150), (0, 1)),
        "far away upside down": lambda p: np.roll(p[::-1, ::-1], (70, 110), (0, 1)),
    }.items(),
    ids=lambda lie: lie[0],
)
def test_a_line_of_text_that_was_moved_is_a_copy(lie, back):
    before = line_of_text(back, "Margaret Hollis 81")
    after = np.ascontiguousarray(lie[1](before))
    word = Detection("text", (38.0, 94.0, 334.0, 130.0), 1.0)
    assert residue.find_residue([], before, after, [word], absolute=False) == [word]


def test_a_line_of_text_that_was_filled_passes():
    before, word = line_of_text("page", "Margaret Hollis 81"), Detection("text", (38.0, 94.0, 334.0, 130.0), 1.0)
    mask = np.zeros(before.shape[:2], np.uint8)
    mask[92:133, 36:337] = 1
    after = cv2.inpaint(before, mask, 3, cv2.INPAINT_TELEA)
    assert residue.find_residue([], before, after, [word], absolute=False) == []


@pytest.mark.slow
def test_a_clear_sky_does_not_prove_that_a_picture_was_rewritten():
    before = np.full((128, 128, 3), 240, np.uint8)
    before[64:, 64:] = smaller(ASTRONAUT, 4)[10:74, 32:96]
    assert not residue.has_changed_anywhere(before, 255 - before)
    after = 255 - before
    after[64:96, 64:96] = cv2.resize(skimage.data.chelsea()[40:240, 100:330], (32, 32))
    assert residue.has_changed_anywhere(before, after)


# Rows of others


@dataclass(frozen=True)
class Swapping(Editor):
    """Gives every row the picture of another: the next of its batch, or one that it was given before."""

    remembers: bool = False
    seen: list[Image.Image] = field(default_factory=list, compare=False)
    honest_alone: bool = False

    def edit(self, edits: Sequence[Edit]) -> list[Image.Image]:
        given = [e.image for e in edits]
        self.seen.extend(given)
        if len(edits) == 1 and self.honest_alone:
            return [Image.fromarray(rewritten(np.asarray(given[0]), e.boxes[0], "gravel")) for e in edits]
        source = self.seen[: len(given)] if self.remembers else given[1:] + given[:1]
        return [image.resize(e.image.size) for image, e in zip(source, edits, strict=True)]


@dataclass(frozen=True)
class Middle(Detector):
    """Finds something in the middle of whatever it sees first, and nothing when it looks again."""

    categories = ("face",)
    flag_threshold: float = 0.5

    def detect(self, images: Sequence[np.ndarray]) -> list[list[Detection]]:
        sizes = [(i.shape[1], i.shape[0]) for i in images]
        return [[Detection("face", (0.4 * w, 0.3 * h, 0.6 * w, 0.6 * h), 0.9)] for w, h in sizes]

    def residue(self, images, edited):
        return [[] for _ in images]


PICTURES = [
    Image.fromarray(getattr(skimage.data, name)()).convert("RGB").resize((240, 180))
    for name in ("astronaut", "chelsea", "coffee", "rocket")
]
STEP = {"inspect": Inspect(detectors=(Middle(),)), "format": "png"}


def test_another_row_s_picture_is_withheld():
    answer = u2s.Anonymize(editor=Swapping(), **STEP)({"image": PICTURES[:3]})
    assert answer[c.STATUS] == [c.WITHHELD] * 3 or all(note.startswith("residue") for note in answer[c.NOTE])


SWAPS: dict[str, Callable[[np.ndarray, np.ndarray], np.ndarray]] = {
    "as it was": lambda other, own: other,
    "mirrored": lambda other, own: other[:, ::-1],
    "inverted": lambda other, own: 255 - other,
    "hue turned": lambda other, own: hue_turned(other),
    "noisy": lambda other, own: noisy(other),
    "shifted": lambda other, own: np.roll(other, 28, 1),
    **{f"zoomed by {by}": lambda other, own, by=by: warped(other, scale=by) for by in (0.8, 1.1, 1.2, 1.4, 2.0)},
    **{f"turned by {by}": lambda other, own, by=by: warped(other, by) for by in (5, -15, 40)},
}


def squares(*names: str) -> list[np.ndarray]:
    pictures = [Image.fromarray(getattr(skimage.data, name)()).convert("RGB") for name in names]
    return [np.asarray(picture.resize((240, 240))) for picture in pictures]


@pytest.mark.parametrize("swap", SWAPS)
def test_another_row_s_picture_is_known_whatever_was_done_to_it(swap):
    pictures = squares("astronaut", "chelsea", "coffee", "rocket")
    known = Originals(8)
    for picture in pictures:
        known.add(picture)
    for own, other in zip(pictures, [*pictures[1:], pictures[0]], strict=True):
        assert known.shows_another(own, np.ascontiguousarray(SWAPS[swap](other, own)))


def test_most_pictures_of_others_are_known_as_half_of_a_mixture():
    pictures = squares("astronaut", "chelsea", "coffee", "rocket")
    known = Originals(8)
    for picture in pictures:
        known.add(picture)
    pairs = zip(pictures, [*pictures[1:], pictures[0]], strict=True)
    assert sum(known.shows_another(own, cv2.addWeighted(other, 0.5, own, 0.5, 0)) for own, other in pairs) >= 3


@pytest.mark.parametrize("name", mostly_slow(["brick", "grass", "camera", "coins", "page"], "camera"))
def test_a_picture_that_nobody_saw_is_no_other_row_s(name):
    pictures, (drawn,) = squares("astronaut", "chelsea", "coffee", "rocket"), squares(name)
    known = Originals(8)
    for picture in pictures:
        known.add(picture)
    for own in pictures:
        assert not known.shows_another(own, drawn)
        assert not known.shows_another(own, rewritten(own, (60.0, 50.0, 150.0, 160.0), "inpainted"))


def test_a_row_that_was_edited_again_alone_is_what_it_is_without_the_others():
    """Its seed too: which rows stand beside it in a batch changes nothing (law 5)."""
    step = u2s.Anonymize(editor=Swapping(honest_alone=True), **STEP)
    together, alone = step({"image": PICTURES[:3]}), step({"image": PICTURES[:1]})
    assert together[c.SEED][0] == alone[c.SEED][0]
    attempts = [json.loads(answer[c.PROVENANCE][0])["attempts"] for answer in (together, alone)]
    assert attempts[0] == attempts[1]
    assert np.array_equal(pixels(together, 0), pixels(alone, 0))


def test_rows_that_were_mixed_up_are_edited_again_alone():
    answer = u2s.Anonymize(editor=Swapping(honest_alone=True), **STEP)({"image": PICTURES[:3]})
    assert answer[c.STATUS] == [c.ANONYMIZED] * 3
    for i, before in enumerate(PICTURES[:3]):
        corner = np.abs(pixels(answer, i)[:20, :20].astype(int) - np.asarray(before)[:20, :20])
        assert corner.max() == 0  # its own background


def test_a_picture_of_an_earlier_batch_is_withheld():
    step = u2s.Anonymize(editor=Swapping(remembers=True), **STEP)
    step({"image": PICTURES[:2]})
    assert step({"image": PICTURES[2:]})[c.STATUS] == [c.WITHHELD] * 2


# Redaction


@dataclass(frozen=True)
class OffByOne(Editor):
    """Claims to redact, and changes every pixel of its boxes by one grey level."""

    redacts = True

    def edit(self, edits: Sequence[Edit]) -> list[Image.Image]:
        return [Image.fromarray(np.where(np.asarray(e.image) < 255, np.asarray(e.image) + 1, 254)) for e in edits]


def test_a_box_whose_pixels_changed_by_one_is_not_hidden():
    batch = {"image": [Image.fromarray(HALF)], "mine": [[list(SIZES[2])]]}
    answer = u2s.Anonymize(
        inspect=Inspect(detectors=(AstronautsFace(times=4),)), editor=OffByOne(), boxes_column="mine"
    )(batch)
    assert answer[c.STATUS] == [c.WITHHELD]


@pytest.mark.parametrize("by", [1, 3, 9, 30])
def test_off_by_a_little_is_not_hidden(by):
    after = np.where(HALF < 128, HALF + by, HALF - by).astype(np.uint8)
    face = Detection("user", SIZES[2], 1.0)
    assert residue.find_residue([], HALF, after, [face], absolute=True) == [face]


@pytest.mark.parametrize("method", ("inpaint", "solid", "pixelate", "blur"))
@pytest.mark.parametrize("times", SIZES)
def test_what_this_package_redacts_is_hidden(method, times):
    before, box = smaller(ASTRONAUT, times), SIZES[times]
    (after,) = u2s.Redact(method=method).edit([Edit(Image.fromarray(before), boxes=(box,), seed=1)])
    assert residue.find_residue([], before, np.asarray(after), [Detection("face", box, 1.0)], absolute=True) == []


# Pushes


def compressed(pixels: np.ndarray, quality: int) -> np.ndarray:
    stored = cv2.imencode(".jpg", pixels, [cv2.IMWRITE_JPEG_QUALITY, quality])[1]
    return cv2.imdecode(stored, cv2.IMREAD_COLOR)


WHOLE: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    **{f"quality {q}": lambda p, q=q: compressed(p, q) for q in (5, 10, 30)},
    "brightened": lambda p: np.clip(p * 0.8 + 40, 0, 255).astype(np.uint8),
    "mirrored": lambda p: p[:, ::-1],
    "turned": lambda p: p[::-1, ::-1],
    "a quarter": lambda p: np.rot90(p),
    "one pixel smaller": lambda p: cv2.resize(p, (p.shape[1] - 1, p.shape[0] - 1), interpolation=cv2.INTER_AREA),
    "half as large": lambda p: cv2.resize(p, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA),
    "mirrored and small": lambda p: compressed(p[::2, ::-2], 30),
    "inverted": lambda p: 255 - p,
    "noisy": noisy,
}


def as_image(pixels: np.ndarray) -> Image.Image:
    return Image.fromarray(np.ascontiguousarray(pixels))


@pytest.mark.parametrize("name", mostly_slow(["astronaut", "coffee"], "coffee"))
@pytest.mark.parametrize("change", WHOLE)
def test_a_flagged_original_that_was_changed_as_a_whole_does_not_leave(change, name):
    before = getattr(skimage.data, name)()[:384, :512]
    row = candidate(before, WHOLE[change](before))
    gate = PublishGate()
    gate.admits(row)
    assert "untouched" in gate.reasons()


@pytest.mark.parametrize("method", ["inpaint", "solid", "pixelate", "blur"])
@pytest.mark.parametrize("quality", [60, 90])
def test_a_picture_whose_face_was_hidden_leaves(method, quality):
    edit = Edit(Image.fromarray(ASTRONAUT), boxes=(FACE,), seed=3)
    (after,) = u2s.Redact(method=method).edit([edit])
    gate = PublishGate()
    gate.admits(candidate(ASTRONAUT, compressed(np.asarray(after), quality), method=method))
    assert gate.reasons() == {}


def test_a_face_that_stayed_does_not_leave_with_something_else_hidden():
    after = ASTRONAUT.copy()
    after[400:480, 20:100] = 128
    gate = PublishGate()
    gate.admits(candidate(ASTRONAUT, compressed(after, 30)))
    assert "untouched" in gate.reasons()


@pytest.mark.parametrize("box", [[1, 2, 3], ["a", 0, 9, 9], [0, 0, float("nan"), 9], [9, 9, 0, 0], 7])
def test_a_box_that_is_none_stops_the_push_since_nothing_can_be_compared_there(box):
    row = candidate(ASTRONAUT, rewritten(ASTRONAUT, FACE, "gravel"))
    row.review[0]["box"] = box
    gate = PublishGate()
    gate.admits(row)
    assert "review" in gate.reasons()


def candidate(before: np.ndarray, after: np.ndarray, method: str = "inpaint") -> Candidate:
    public = {
        c.ROW_ID: "0" * 32,
        c.ANONYMIZED_IMAGE: {"bytes": images.encode(as_image(after), "png"), "path": None},
        c.PROVENANCE: json.dumps(
            {"editor": {"part": "Redact", "method": method}, "verified": True, "inspected": ["face"]}
        ),
    }
    review = [c.review_item("face", "", "a detector", FACE, 0.9)]
    original = {"bytes": images.encode(as_image(before), "png"), "path": None}
    return Candidate(public, c.ANONYMIZED, True, review, original=original)
