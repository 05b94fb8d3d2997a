"""What a prediction is worth, in numbers and in honest words; the same on the terminal, in summary.json and on the page."""

from __future__ import annotations

from typing import Any

from handface.counted import counted
from handface.model.outputs.coco import finite
from handface.model.prediction.prediction import CONTACT_PROBABILITY, Person

_GOOD, _USABLE = 0.7, 0.5
_SURE = 0.7  # confidence of the detector below which hand or face may be none


def describe_person(person: Person, trained: bool) -> dict[str, Any]:
    """Plain JSON values. hand_contact, head_contact: share of vertices that touch.  level: good, fair, low or unknown.  words: for people."""
    level, words = trust(person, trained)
    return {
        "side": person.side,
        "presence": finite(person.presence),
        "confidence": finite(person.confidence),
        "quality": finite(person.quality),
        "hand_contact": float((person.hand.contact > CONTACT_PROBABILITY).mean()),
        "head_contact": float((person.head.contact > CONTACT_PROBABILITY).mean()),
        "level": level,
        "words": words,
    }


def count_words(people: int, hands: int) -> str:
    """As `1 person, 2 hands`."""
    return f"{counted(people, 'person', 'people')}, {counted(hands, 'hand')}"


def trust(person: Person, trained: bool) -> tuple[str, str]:
    """How far to trust a person's meshes: level and words."""
    if not trained:
        return "low", "The network is untrained, or nearly so: meshes, contact and parameters mean nothing."
    quality, reason = finite(person.quality), "" if person.fit is None else person.fit.reason
    if quality is None:
        return "unknown", "Not fitted to the photo, so its quality is not known. Look at the overlay."
    quality, confidence = round(quality, 2), round(person.confidence, 2)  # as people see them
    if quality >= _GOOD and confidence < _SURE:
        return (
            "fair",
            "Lies on the points, but the detector is not sure of them: look whether hand and face are really there.",
        )
    if quality >= _GOOD:
        return "good", "Lies well on the points seen in the photo."
    because = f" ({reason})" if reason else ""
    if quality >= _USABLE:
        return "fair", f"Usable, but look at the fingers{because}."
    return "low", f"Do not trust this mesh{because}. Is the whole face in the photo, and the hand in view?"
