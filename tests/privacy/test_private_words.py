"""The leak check on a small labelled table: what it misses and what it stops without need, counted both."""

import pytest

from u2s_datasets import columns as c
from u2s_datasets.privacy.private_words import find_private_words, terms_of_review

BOX = (1, 1, 9, 9)

LEAKING = [  # (what the model named, or what a detector read; the public text)
    ("Name tag reading Anna Schmidt", "A person named Anna sits at a desk."),
    ("Anna Schmidt", "anna sits at a desk."),
    ("name tag 'Müller'", "A person, Muller, at a desk."),
    ("McDonald's logo", "People eat in front of a McDonalds."),
    ("Nike shoes", "A person in nike shoes runs."),
    ("Starbucks cup", "A person holds a Star-bucks cup."),
    ("license plate B-MW 4711", "A car with the plate BMW 4711 is parked."),
    ("phone number 555-0142 99", "Call 5550142 99, a sign says."),
    ("house number 42", "A house with the number 42."),
    ("year 1987 on a banner", "A banner from 1987 hangs on a wall."),
    ("a wheelchair", "A person in a wheelchair near a table."),
    ("woman wearing a hijab", "A person in a hijab holds a cup."),
    ("tattoo of an anchor", "A person with an anchor on the arm."),
    ("Eiffel Tower in the background", "The Eiffel tower stands behind trees."),
    ("sign 'Harvard Medical School'", "A group outside Harvard."),
    ("Red Cross vest", "People in Red Cross vests stand."),
    ("shirt that says 'vote green now'", "A shirt asks to vote green now."),
    ("street sign Rose Street", "A path at Rose Street with trees."),
    ("police uniform", "A person in a police uniform."),
    ("a crucifix on the wall", "A crucifix hangs above a bed."),
    ("date 12/05/2019", "A receipt from 12/05/2019."),
    ("email anna.s@web.de", "A screen shows anna.s@web.de."),
    ("東京駅", "The 東京駅 sign hangs above a door."),
    ("Pfizer vaccine card", "A person holds a pfizer card."),
    ("teenage boy", "A teenage person on a bench."),
    ("pregnant belly", "A pregnant person stands by a window."),
    ("@sunnyjane on a screen", "A screen with @sunnyjane."),
    ("man named Will", "will is seated at a desk."),
    # written after the rule, when it missed 1 of these 24 and stopped 5 of the 24 harmless ones below
    ("Delta Airlines boarding pass", "A traveller with a delta boarding pass at a gate."),
    ("student ID card of Kevin", "Kevin holds a card."),
    ("Chicago skyline", "The Chicago skyline at night."),
    ("Coca-Cola can", "A can of coca cola on a table."),
    ("rainbow flag", "A rainbow flag hangs from a window."),
    ("bandage on the left arm", "A person with a bandage on the arm."),
    ("BMW badge", "A dark bmw on a street."),
    ("medicine bottle (ibuprofen)", "A bottle of ibuprofen on a shelf."),
    ("elderly woman", "An elderly person sits on a bench."),
    ("street address 221B Baker Street", "A door with 221b on it."),
    ("wedding ring", "Someone with a wedding ring holds a cup."),
    ("graduation gown", "A group in graduation gowns on the grass."),
    ("bank statement showing $5,320", "A paper shows 5320 in print."),
    ("political campaign button 'Yes We Can'", "A button says yes we can."),
    ("Asian man", "An Asian person at a desk."),
    ("Tokyo station sign", "A station in tokyo with many people."),
    ("username @mkay_92", "A screen with mkay 92."),
    ("Toyota Corolla with Texas plate", "A toyota is parked on a road."),
    ("the word POLICE on a vest", "A person in a police vest."),
    ("a baby stroller with a baby", "A stroller with a baby near a bench."),
    ("nurse badge 'Hope'", "A badge reads hope."),
    ("soldier in camouflage", "Someone in camouflage stands by a truck."),
    ("child in school uniform", "A child in a school uniform waits."),
    ("birthday banner 'Happy 50th'", "A banner says happy 50th."),
    ("jersey with number 7", "A player wears the number seven."),  # a number in words
    ("name tag: Summer", "A person, summer by name, at a desk."),  # a name that is a common word, in lower case
    ("Munich", "A street in München."),  # another language
]
READ_LEAKING = [
    ("QUIET PLEASE EXAM IN PROGRESS", "A door says quiet please exam in progress."),
    ("Black Lives Matter", "A banner with black lives matter."),
    ("OPEN HOUSE", "An open house sign."),
    ("Dr. Weber", "The office of dr. Weber."),
]
RESPACED = [  # what a detector read; the public text says it in another spacing
    ("AB 12 CDE", "A car with the plate AB12CDE."),
    ("AB12CDE", "A car with the plate AB 12 CDE."),
    ("D AB 12 CDE BAYERN", "A car with the plate ab12cde."),
    ("B 7", "Gate B7 is seen."),
    ("Gate B7", "Gate B 7 is seen."),
    ("John Smith", "A badge of JohnSmith on a shirt."),
    ("JohnSmith", "A badge of John on a shirt."),
    ("john smith", "A screen with johnsmith.tv on it."),
    ("Li Wu", "A sign of LiWu."),
    ("LiWu", "A sign of Li Wu."),
    ("anna.k", "A page of annak."),
    ("O'Brien", "A badge of OBrien."),
    ("Mc Donald", "A sign of McDonald."),
    ("KFC", "A bucket of K.F.C. chicken."),
    ("K.F.C.", "A bucket of KFC chicken."),
    ("Vote Green Now", "A sign with #VoteGreenNow."),
    ("BLACK LIVES MATTER", "A banner with #blacklivesmatter."),
    ("田中太郎", "田中さんの写真。"),
    ("田中 太郎", "田中太郎さんの写真。"),
    ("김민수", "민수 씨가 앉아 있다."),
    ("tel 5 5 5 1", "Call 5551."),
]
HARMLESS = [
    ("a person's face", "A person sits at a table."),
    ("man in a red jacket", "A person in a blue coat stands near a red car."),
    ("Name tag reading Anna Schmidt", "A person with a name tag sits at a desk."),
    ("license plate B-MW 4711", "A dark car is parked on a street."),
    ("Open sign", "An open door leads to a bright room."),
    ("sign 'OPEN'", "A shop with an open door and a plain sign."),
    ("two faces in the background", "Two people stand in the background."),
    ("woman with an umbrella", "A person with an umbrella walks along a wet road."),
    ("Personal photographs on the wall", "Pictures hang on a wall above a sofa."),
    ("laptop screen with an email", "A laptop stands on a wooden table."),
    ("House number 42", "A brick house with a white door."),
    ("Blue Car With A Brand Logo", "A blue car is parked under a tree."),
    ("a bicycle with a basket", "A bicycle leans against a wall."),
    ("child's drawing", "A paper is attached to a fridge."),
    ("Eiffel Tower", "A tall tower stands behind trees under a cloudy sky."),
    ("handwritten note on the table", "A note lies on a table beside a cup of coffee."),
    ("Mark Stone", "Large stones lie on the shore."),
    ("family dinner", "Some people share a meal at a round table."),
    ("Apple logo", "A red apple lies beside a laptop."),
    ("people hugging", "Some people stand close together."),
    # written after the rule, see above
    ("faces of two women", "Two people sit at a table with cups."),
    ("woman in a white dress", "A person in white clothes stands in front of a wall."),
    ("computer screen showing an email inbox", "A computer monitor stands on a desk beside a lamp."),
    ("personal belongings such as bags", "Several bags lie on the floor."),
    ("Street sign Maple Avenue", "A street with trees and a sign."),
    ("dining table with personal items", "A dining table with plates and glasses."),
    ("person riding a bike", "Someone is riding a bike along a river."),
    ("brand logo on the shirt", "A person in a plain shirt."),
    ("Crowd of spectators", "A crowd watches a game."),
    ("handbag", "A person carries a bag."),
    ("man surfing", "A person is surfing on a wave."),
    ("tennis player", "A person plays tennis on a court."),
    ("skier in a red jacket", "Someone in a red jacket skis down a hill."),
    ("a man holding a skateboard", "A person rides a skateboard down a ramp."),
    ("license plate on a motorcycle", "A motorcycle is parked beside a tree."),
    ("text on a pizza box", "A box with a pizza stands on a counter."),
    ("clock showing 10:25", "A clock hangs on a tower."),
    ("woman's face reflected in a mirror", "A mirror hangs above the sink in a bathroom."),
    ("giraffe keeper", "A giraffe stands beside a fence."),
    ("bus with route number 38", "A red bus drives down a street."),
    ("kitchen interior", "A kitchen with a stove and a fridge."),
    ("private bedroom", "A bedroom with a bed and a lamp."),
    ("a man cutting a cake", "A person is cutting a cake with a knife."),
    ("people at a party", "Some people at a party hold drinks."),
    ("Rose Miller", "A vase with a rose stands on a table."),  # a name that is also a flower
    ("a guitar with a sticker", "Someone plays a guitar on a bench."),  # a harmless thing that is not in the list
]
READ_HARMLESS = [
    ("EXIT", "A door at the end of a hall."),
    ("OPEN", "An open window above a street."),
    ("in the", "A cup in the sink."),
    ("STOP", "A car has stopped at a corner."),
    ("bus stop", "People wait at a bus stop."),  # a reading of two common words
]
RESPACED_HARMLESS = [  # read; a public text that says none of it, though some letters fall together
    ("AB 12 CDE", "A red car is parked beside a wall."),
    ("Ina", "A person sits in a room."),
    ("Anna K", "A person sits on a bank."),
    ("Isa B", "This is a bench."),
    ("Dr. Li", "A drill lies on a table."),
    ("bus stop", "A busy street with a shop."),
    ("in the", "A cup in the sink."),
    ("a part", "Two cars stand apart."),
    ("John Smith", "A person in a smithy."),
    ("OPEN HOUSE", "A house with an open door."),
    ("K.F.C.", "A bucket of chicken."),
    ("B 7", "A gate with a sign."),
    ("iPhone", "A phone lies on a table."),
    ("YouTube", "A tube of paint lies on a table."),
    ("田中太郎", "駅の写真。"),
]


def found(item: str, text: str, read: bool) -> list[str]:
    return find_private_words(text, terms_of_review([c.review_item("text", item, "", BOX if read else None, 1.0)]))


def table(plain, read):
    return [(*pair, False) for pair in plain] + [(*pair, True) for pair in read]


def test_leaks_missed_and_texts_stopped_without_need():
    missed = [case[:2] for case in table(LEAKING, READ_LEAKING) if not found(*case)]
    needless = [case[:2] for case in table(HARMLESS, READ_HARMLESS) if found(*case)]
    missed_respaced = [case for case in RESPACED if not found(*case, True)]
    needless_respaced = [case for case in RESPACED_HARMLESS if found(*case, True)]
    assert (missed_respaced, needless_respaced) == ([], [])
    assert missed == [tuple(pair) for pair in LEAKING[-3:]]
    assert needless == [*HARMLESS[-2:], READ_HARMLESS[-1]]


@pytest.mark.parametrize("caption", ["A man, Anna Schmidt, waits.", "It says 'no guns allowed'. Call 4711."])
def test_of_a_private_caption_names_numbers_and_quotations_are_telling(caption):
    private = terms_of_review([], caption)
    assert not find_private_words("A man waits under a lantern.", private)
    assert find_private_words("anna waits" if "Anna" in caption else "no guns allowed here", private)


def test_what_the_user_named_may_be_said():
    private = terms_of_review([c.review_item("text", "grand accordion", "", None, 1.0)])
    assert find_private_words("A person plays an accordion.", private) == ["accordion"]
    assert find_private_words("A person plays an accordion.", private, allowed="accordion") == []
