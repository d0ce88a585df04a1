"""A mapped dataset on its way out: public columns and named ones, ids of our own, and what may be an original."""

import json

import pytest
from datasets import Dataset, Features, Image, Value

import u2s_datasets as u2s
from tests.helpers.fakes import picture
from tests.helpers.published_run import ABOUT
from tests.helpers.steps import RED
from u2s_datasets import columns as c
from u2s_datasets import images
from u2s_datasets.publish.dataset_split import DatasetSplit

SECRET = b"0123456789abcdef"
STEP = u2s.Anonymize(inspect=RED, editor=u2s.Redact(method="solid"))


def stored(i: int, red: bool = False) -> dict:
    return {"bytes": images.encode(picture(red=red, seed=i), "png"), "path": f"/home/zoe/holiday_{i}.png"}


def mapped(**more) -> Dataset:
    """A safe row, one with a red square and one that cannot be read; `more` are (feature, values) of other columns."""
    rows = {"image": [stored(0), stored(1, red=True), {"bytes": b"\x89PNG and no more", "path": None}]}
    rows |= {name: values for name, (_, values) in more.items()}
    types = Features({"image": Image(), **{name: feature for name, (feature, _) in more.items()}})
    return Dataset.from_dict(rows, features=types).map(STEP, batched=True)


def split(data, name: str = "train", keep=None, secret: bytes = SECRET, allow=("mood",)) -> DatasetSplit:
    return DatasetSplit(data, name, secret, keep, allow=allow)


def rows(data, **options) -> list[dict]:
    """The public half of every row that has one."""
    return [one.public for one in split(data, **options).candidates() if one.public]


def test_what_leaves_is_public_or_named():
    data = mapped(mood=(Value("string"), ["calm", "calm", "calm"]), size=(Value("int32"), [1, 2, 3]))
    made = list(split(data, keep=["mood"]).candidates())
    assert [one.status for one in made] == [c.SAFE, c.ANONYMIZED, c.WITHHELD]
    assert [bool(one.public) for one in made] == [True, True, False]
    names = {*(name for name in c.PUBLIC if name in data.features), c.ROW_ID, "mood"}
    assert set(split(data, keep=["mood"]).features) == names
    assert {name for one in made for name in one.public} == names
    assert not names & {"image", "size", *c.PRIVATE} - {*c.PUBLIC}


def test_a_row_of_which_nothing_is_known_counts_as_private():
    data = mapped()
    assert [one.flagged for one in split(data).candidates()] == [False, True, True]
    unknown = data.remove_columns([c.PRIVACY_FLAG]).add_column(c.PRIVACY_FLAG, [None] * 3)
    for other in (data.remove_columns([c.PRIVACY_FLAG]), unknown):
        assert [one.flagged for one in split(other).candidates()] == [True] * 3


def test_every_column_that_may_hold_images_may_hold_the_original():
    structs = ({"bytes": Value("binary"), "path": Value("string")}, [stored(i) for i in range(3)])
    data = mapped(raw=(Value("binary"), [b"one", b"two", b"six"]), cover=(Image(), [stored(9)] * 3), other=structs)
    for one in split(data).candidates():
        given = [one.original, *one.others]
        assert len(given) == 4
        assert any(value in (b"one", b"two", b"six") for value in given)
    assert [one.others for one in split(mapped()).candidates()] == [[]] * 3
    bare = mapped().remove_columns("image")
    assert [one.original for one in split(bare).candidates()] == [None] * 3
    assert "originals" in u2s.push_to_hub(bare, "org/safe", dry_run=True, **ABOUT).reasons


def test_row_ids_are_keyed_by_secret_and_split_and_never_the_source_s():
    data = mapped()
    ids = [row[c.ROW_ID] for row in rows(data)]
    assert len(set(ids)) == 2
    assert [row[c.ROW_ID] for row in rows(data)] == ids  # two variants of one split belong together
    assert not set(ids) & {row[c.ROW_ID] for row in rows(data, name="test")}
    assert not set(ids) & {row[c.ROW_ID] for row in rows(data, secret=b"another secret key")}
    theirs = data.add_column(c.ROW_ID, ["holiday_0", "holiday_1", "holiday_2"])
    given = [row[c.ROW_ID] for row in rows(theirs)]
    assert not {*given} & {"holiday_0", "holiday_1", *ids}
    assert [row[c.ROW_ID] for row in rows(theirs.select([1, 0]))] == given[::-1]  # an id goes with its row


def test_a_kept_text_that_says_a_file_s_name_or_what_was_read_stays_home():
    said = ["Zoe's holiday_0", "the sign of Orchard Road", "calm"]
    data = mapped(mood=(Value("string"), said))
    read = [[], [c.review_item("text", "Orchard Road 12", "", (1, 1, 9, 9), 0.9)], []]
    feature = data.features[c.PRIVACY_REVIEW]
    data = data.remove_columns(c.PRIVACY_REVIEW).add_column(c.PRIVACY_REVIEW, read, feature=feature)
    one = split(data, keep=["mood"])
    assert [row.public["mood"] for row in one.candidates() if row.public] == [None, None]
    assert one.kept_emptied == {"mood": 2}
    assert [row["mood"] for row in rows(mapped(mood=(Value("string"), ["calm"] * 3)), keep=["mood"])] == ["calm"] * 2


def test_a_score_leaves_with_two_digits_and_only_where_it_is_named():
    data = mapped().map(u2s.Score(inspect=None), batched=True)
    exact = data[1][c.SSIM]
    assert exact not in (None, 1.0)
    assert [row[c.SSIM] for row in rows(data, keep=[c.SSIM])] == [1.0, float(f"{exact:.2g}")]
    assert c.SSIM not in rows(data)[0]
    assert [one.scores[c.SSIM] for one in split(data).candidates()] == [1.0, exact, None]  # the gate sees all digits


def test_an_unverified_row_makes_an_unverified_set():
    data = mapped()
    edited = json.loads(data[1][c.PROVENANCE])
    assert edited["verified"] is True
    assert "unverified" not in u2s.push_to_hub(data, "org/safe", dry_run=True, **ABOUT).reasons
    feature = data.features[c.PROVENANCE]
    for lie in (None, "", json.dumps({**edited, "verified": False}), json.dumps({**edited, "verified": None})):
        told = [data[c.PROVENANCE][0], lie, data[c.PROVENANCE][2]]
        other = data.remove_columns(c.PROVENANCE).add_column(c.PROVENANCE, told, feature=feature)
        assert "unverified" in u2s.push_to_hub(other, "org/safe", dry_run=True, **ABOUT).reasons


def test_a_stream_gives_what_the_dataset_gives():
    data = mapped()
    stream = data.to_iterable_dataset()
    assert [one.public for one in split(stream).candidates()] == [one.public for one in split(data).candidates()]
    one = split(stream)
    list(one.candidates())
    assert (one.report().safe, one.report().anonymized, one.report().withheld) == (1, 1, 1)


@pytest.mark.parametrize("needed", [c.ANONYMIZED_IMAGE, c.STATUS])
def test_a_dataset_that_went_through_no_step_is_refused(needed):
    with pytest.raises(u2s.SetupError, match=needed):
        split(mapped().remove_columns(needed))


def test_a_column_that_is_not_there_or_of_an_unknown_type_is_refused():
    with pytest.raises(u2s.SetupError, match="mood"):
        split(mapped(), keep=["mood"])
    untyped = mapped().to_iterable_dataset().map(lambda row: row)
    with pytest.raises(u2s.SetupError, match="cast"):
        split(untyped)
