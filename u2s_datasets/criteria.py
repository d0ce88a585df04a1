"""What can make an image private: nine criteria condensed from VISPR's attributes (paper, section 3.1)."""

from __future__ import annotations

CRITERIA = {
    "people": "people: faces whole or partial, skin in private contexts, tattoos, emotion",
    "appearance": "appearance that tells gender, culture, religion, status or role",
    "health": "health indicators",
    "text": "text and symbols: signs, receipts, documents, screens, handwriting, plates, names, numbers",
    "places": "locations and timestamps",
    "interactions": "personal interactions",
    "settings": "professional and school settings",
    "affiliations": "cultural, political and religious identifiers",
    "belongings": "private belongings and behaviours",
}

DETECTED = {
    "face": "faces of 16 pixels and more, seen from the front or at an angle",
    "text": "printed text, licence plates included, of at least two letters or digits",
    "user": "boxes given by the user",
}
"""What the detectors' categories stand for, in the words of reports and cards."""

BEYOND_DETECTORS = (
    "people without a visible face: backs, bodies, hands, tattoos, skin",
    "handwriting, logos, QR codes and text too small or too blurred to be read",
    *(CRITERIA[name] for name in CRITERIA if name not in ("people", "text")),
)
"""What no detector here looks for, whatever is switched on."""


def scope(categories: tuple[str, ...]) -> tuple[list[str], list[str]]:
    """(inspected, not inspected), in words, for a set of detector categories."""
    inspected = [words for name, words in DETECTED.items() if name in categories]
    left = [words for name, words in DETECTED.items() if name not in categories and name != "user"]
    return inspected, left + list(BEYOND_DETECTORS)
