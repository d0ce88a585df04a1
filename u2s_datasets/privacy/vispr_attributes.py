"""VISPR's 67 privacy attributes, and the four groups of them that the paper asks for one by one.

Ids, groups and meanings are those of the dataset (Orekondy, Schiele and Fritz, ICCV 2017), "occassion" included; the
words of the criteria are ours. `criteria.load_criteria` takes every id, `vispr` for all of them, and `vispr:` with the
name of a group, the dataset's own (`vispr:documents`) or the paper's (`vispr:face`).
"""

from dataclasses import dataclass

SAFE = "a0_safe"  # the label of an image that has none of the 67

PREFIX = "vispr"


@dataclass(frozen=True)
class Attribute:
    """One of the 67 attributes.

    Args:
        id: the label in the annotations, such as "a9_face_complete".
        group: the dataset's own group, such as "Personal Description".
        meaning: the dataset's name for it.
        words: the words by which a model is asked for it.
    """

    id: str
    group: str
    meaning: str
    words: str


@dataclass(frozen=True)
class Group:
    """One of the four groups of the paper's table 1 (section S2.3).

    Args:
        title: its name in the table.
        ids: attributes of which one makes an image a positive.
        criterion: (name, words) of the one question for all of them.
        detected: the detector categories that cover exactly this group.
    """

    title: str
    ids: tuple[str, ...]
    criterion: tuple[str, str]
    detected: tuple[str, ...] = ()


GROUPS = {
    "face": Group(
        "Face",
        ("a9_face_complete", "a10_face_partial"),
        ("faces", "a person's face, all of it or a part: from the side, half covered, cut off, small or blurred too"),
        ("face",),
    ),
    "health": Group(
        "Health indicators",
        ("a39_disability_physical", "a41_injury", "a43_medicine"),
        (
            "signs of somebody's health",
            "physical disability, injury or treatment: wheelchairs, crutches, casts, "
            "bandages, wounds, hospital beds, medical devices, medicine and prescriptions",
        ),
    ),
    "vehicles": Group(
        "Vehicles",
        ("a102_vehicle_ownership", "a103_license_plate_complete", "a104_license_plate_partial"),
        ("vehicles", "somebody's own car, motorcycle or other vehicle, or a licence plate, legible in full or in part"),
    ),
    "opinion": Group(
        "Personal opinion",
        ("a61_opinion_general", "a62_opinion_political"),
        (
            "personal opinions",
            "what somebody thinks, of politics or anything else, shown by slogans, banners, posters, "
            "badges, stickers, clothes, protests or campaigns",
        ),
    ),
}
"""The paper's groups by their names in `load_criteria` and `u2s vispr`."""

_TABLE = """
Personal Description
a1_age_approx               | Age group               | age, so far as looks tell it
a2_weight_approx            | Weight group            | body weight, so far as looks tell it
a3_height_approx            | Height group            | body height, so far as looks tell it
a4_gender                   | Gender                  | gender, so far as looks tell it
a5_eye_color                | Eye color               | eyes whose colour can be seen
a6_hair_color               | Hair color              | hair whose colour can be seen
a7_fingerprint              | Fingerprint             | fingerprints, or fingertips close enough to read one
a8_signature                | Signature               | a signature
a9_face_complete            | Face (complete)         | a face that can be seen whole
a10_face_partial            | Face (partial)          | part of a face: turned away, covered or cut off
a11_tattoo                  | Tattoo                  | a tattoo
a12_semi_nudity             | Semi-nudity             | people with few clothes on
a13_full_nudity             | Complete nudity         | people without clothes
a16_race                    | Race                    | race, so far as looks tell it
a17_color                   | Skin color              | skin whose colour can be seen
a18_ethnic_clothing         | Traditional clothing    | clothes that are traditional to a people or region
a19_name_full               | Full name               | somebody's first and last name
a20_name_first              | First name              | somebody's first name
a21_name_last               | Last name               | somebody's last name
a23_birth_city              | Place of birth          | where somebody was born
a24_birth_date              | Date of birth           | when somebody was born
a25_nationality             | Nationality             | nationality, by papers, flags, uniforms or jerseys
a26_handwriting             | Handwriting             | handwriting
a27_marital_status          | Marital status          | whether somebody is married: weddings, rings, papers
Documents
a29_ausweis                 | National identification | a national identity card
a30_credit_card             | Credit card             | a credit or bank card
a31_passport                | Passport                | a passport
a32_drivers_license         | Drivers license         | a driving licence
a33_student_id              | Student ID              | a student's card
a35_mail                    | Mail                    | letters, envelopes or parcels with what stands on them
a37_receipt                 | Receipts                | a receipt or a bill
a38_ticket                  | Tickets                 | a ticket or a boarding pass
Health
a39_disability_physical     | Physical disability     | a physical disability: wheelchairs, prostheses, white canes
a41_injury                  | Medical treatment       | an injury or its treatment: wounds, casts, bandages, drips
a43_medicine                | Medical history         | medicine, prescriptions or medical records
Employment
a46_occupation              | Occupation              | what somebody works as: uniforms, tools, name tags
a48_occassion_work          | Work occasion           | an event at work: meetings, talks, conferences
Personal Life
a49_phone                   | Phone number            | a phone number
a55_religion                | Religion                | somebody's religion: symbols, clothes, ceremonies
a56_sexual_orientation      | Sexual orientation      | somebody's sexual orientation: couples, symbols, parades
a57_culture                 | Culture                 | a culture or its customs: festivals, dances, costumes
a58_hobbies                 | Hobbies                 | somebody's hobby
a59_sports                  | Sports                  | sports that somebody does
a60_occassion_personal      | Personal occasion       | a private event: birthdays, weddings, holidays, parties
a61_opinion_general         | General opinion         | somebody's opinion on anything but politics
a62_opinion_political       | Political opinion       | somebody's political opinion: campaigns, protests, slogans
a70_education_history       | Education history       | where or what somebody studied: diplomas, gowns, schools
a99_legal_involvement       | Legal involvement       | dealings with the law: arrests, courts, police matters
Relationship
a64_rel_personal            | Personal relationships  | family, couples or close friends together
a65_rel_social              | Social circle           | friends or acquaintances together
a66_rel_professional        | Professional circle     | people together who work or study together
a67_rel_competitors         | Competitors             | people who compete with each other
a68_rel_spectators          | Spectators              | people who watch an event together
a69_rel_views               | Similar view            | people gathered for a view that they share
Whereabouts
a73_landmark                | Landmark or street sign | a landmark, street sign or name that tells the place
a74_address_current_complete| Location (complete)     | a full address or exact place where somebody is
a75_address_current_partial | Location (partial)      | part of an address or a hint to the place where somebody is
a78_address_home_complete   | Home address (complete) | somebody's full home address
a79_address_home_partial    | Home address (partial)  | part of somebody's home address, or their home itself
a82_date_time               | Date/time of activity   | the date or time at which somebody does something
Internet
a85_username                | Username                | a user name or account name
a90_email                   | Email address           | an e-mail address
a92_email_content           | Email content           | what an e-mail says
a97_online_conversation     | Online conversations    | chats, posts or comments
Automobile
a102_vehicle_ownership      | Vehicle ownership       | a vehicle together with who owns or uses it
a103_license_plate_complete | License plate (complete)| a licence plate that can be read in full
a104_license_plate_partial  | License plate (partial) | a licence plate that can be read in part
"""


def _read(table: str) -> dict[str, Attribute]:
    attributes, group = {}, ""
    for line in table.strip().splitlines():
        first, *others = (cell.strip() for cell in line.split("|"))
        if others:
            attributes[first] = Attribute(first, group, *others)
        else:
            group = first
    return attributes


ATTRIBUTES = _read(_TABLE)
"""The 67 by id, in the dataset's order."""


def set_names() -> tuple[str, ...]:
    """Every name of a set: `vispr`, `vispr:face`, …"""
    own = (_folded(a.group) for a in ATTRIBUTES.values())
    return (PREFIX, *(f"{PREFIX}:{name}" for name in dict.fromkeys((*GROUPS, *own))))


def attributes_named(name: str) -> tuple[Attribute, ...]:
    """The attributes of this name; () for a name that is not one of VISPR's.

    Args:
        name: an id, `vispr`, or `vispr:` and a group, whose case, spaces and underscores do not count. `health` holds
            the same attributes in the dataset's grouping and in the paper's, and so do `automobile` (the dataset's)
            and `vehicles` (the paper's).
    """
    if name in ATTRIBUTES:
        return (ATTRIBUTES[name],)
    head, colon, group = name.partition(":")
    if head.strip() != PREFIX:
        return ()
    if not colon:
        return tuple(ATTRIBUTES.values())
    if (group := _folded(group)) in GROUPS:
        return tuple(ATTRIBUTES[i] for i in GROUPS[group].ids)
    return tuple(a for a in ATTRIBUTES.values() if _folded(a.group) == group)


def _folded(group: str) -> str:
    return "_".join(group.replace("_", " ").casefold().split())
