"""Messages to a shop, labelled with what the customer wants.

Nearly every message speaks of two wishes: the customer's own, and one that is refused, past, or
another person's. Words alone therefore do not give the label away; the sentence around them does.
"""

from __future__ import annotations

from collections.abc import Hashable
from functools import partial
from random import Random
from typing import NamedTuple

from foreword.data.synthetic.drawing import capitalise, draw_new


class _Wish(NamedTuple):
    """One wish in words: ``noun`` fits 'I want ...', ``verb`` fits 'please ...'."""

    noun: str
    verb: str


_NOUNS = {
    "refund": ["a refund", "my money back", "the {price} back on my card", "a full repayment"],
    "replacement": [
        "a replacement",
        "another {item} in its place",
        "an exchange",
        "a new {item} for this one",
    ],
    "tracking": ["the tracking number", "an arrival date", "news of where it is", "word from the courier"],
    "change": ["another delivery address", "a later delivery day", "a different colour", "a larger size"],
    "cancellation": [
        "the order stopped",
        "an end to this order",
        "the purchase called off",
        "a cancellation",
    ],
}
_VERBS = {
    "refund": ["refund me", "send my money back", "pay the {price} back", "return what I paid"],
    "replacement": ["send me a new one", "swap it for another", "exchange the {item}", "replace it"],
    "tracking": [
        "find out where it is",
        "check when it arrives",
        "trace the parcel",
        "ask the courier about it",
    ],
    "change": ["send it to my office", "deliver it on {day}", "make it the blue one", "ship the larger size"],
    "cancellation": ["cancel the order", "stop the order", "call the whole thing off", "drop the {item}"],
}
LABELS = tuple(_NOUNS)
"""The classes, each a wish."""

_OWN = [
    "Could you please {own.verb}?",
    "I would like you to {own.verb}.",
    "Please {own.verb}.",
    "I am writing so that you can {own.verb}.",
    "Can somebody {own.verb}?",
    "I would like {own.noun}.",
    "All I am asking for is {own.noun}.",
    "What I need from you is {own.noun}.",
    "What would help me is {own.noun}.",
    "Is there a way to get {own.noun}?",
]
_OTHER = [
    "There is no need to {other.verb}.",
    "Please do not {other.verb}.",
    "Your colleague offered to {other.verb}, but that is no use to me.",
    "Last year I asked you to {other.verb}, and that went well.",
    "My neighbour asked you to {other.verb}; that is her own affair.",
    "I am not asking for {other.noun}.",
    "I thought about {other.noun} and decided against it.",
    "You offered me {other.noun}, which does not help.",
    "My brother wanted {other.noun} last month.",
    "I can do without {other.noun}.",
]
_BOTH = [
    "Instead of {other.noun} I want {own.noun}.",
    "I would rather have {own.noun} than {other.noun}.",
    "Do not {other.verb}; {own.verb} instead.",
    "Rather than {other.verb}, please {own.verb}.",
    "Please {own.verb} and do not {other.verb}.",
    "At first I asked for {other.noun}, but now I prefer {own.noun}.",
    "I want {own.noun}, not {other.noun}.",
    "My husband wants {other.noun}, but the order is mine and I want {own.noun}.",
    "{own.noun} will do; {other.noun} will not.",
    "It makes no sense to {other.verb} when you could {own.verb}.",
]
_SITUATIONS = [
    "I ordered a {item} {when}.",
    "This is about the {item} in order {number}.",
    "My order {number} is a {item}.",
    "We chose a {item} for my {relative}.",
    "The {item} cost {price}.",
    "I bought a {item} from you {when} for {price}.",
    "I have written about the {item} before.",
]
_OPENINGS = ["", "", "Hello.", "Good morning.", "Dear team.", "Hi there!"]
_CLOSINGS = [
    "",
    "",
    "",
    "Thank you.",
    "Kind regards.",
    "I hope to hear from you soon.",
    "Thanks for your help.",
]
_ITEMS = [
    "kettle",
    "lamp",
    "raincoat",
    "bookshelf",
    "toaster",
    "rucksack",
    "desk",
    "radio",
    "carpet",
    "bicycle",
]
_TIMES = ["yesterday", "last week", "on Monday", "two weeks ago", "at the weekend", "in spring"]
_DAYS = ["Tuesday", "Wednesday", "Thursday", "Friday", "Saturday"]
_RELATIVES = ["sister", "father", "niece", "colleague", "daughter", "friend"]


def make_tickets(rng: Random, count: int, seen: set[Hashable]) -> list[dict[str, str]]:
    """``count`` tickets, ``{"text": ..., "label": ...}``, as even over the labels as can be.

    Args:
        rng: where all chance comes from.
        seen: texts to avoid; those made here are added.
    """
    labels = [LABELS[index % len(LABELS)] for index in range(count)]
    rng.shuffle(labels)
    return [{"text": draw_new(partial(_message, rng, label), str, seen), "label": label} for label in labels]


def _message(rng: Random, label: str) -> str:
    details = {
        "item": rng.choice(_ITEMS),
        "when": rng.choice(_TIMES),
        "day": rng.choice(_DAYS),
        "relative": rng.choice(_RELATIVES),
        "price": f"{rng.randrange(15, 190)} dollars",
        "number": str(rng.randrange(10_000, 99_999)),
    }
    own = _wish(rng, label, details)
    other = _wish(rng, rng.choice([name for name in LABELS if name != label]), details)
    body = [rng.choice(_SITUATIONS).format(**details)]
    body += [capitalise(template.format(own=own, other=other)) for template in _wishes(rng)]
    return " ".join(filter(None, [rng.choice(_OPENINGS), *body, rng.choice(_CLOSINGS)]))


def _wish(rng: Random, label: str, details: dict[str, str]) -> _Wish:
    return _Wish(rng.choice(_NOUNS[label]).format(**details), rng.choice(_VERBS[label]).format(**details))


def _wishes(rng: Random) -> list[str]:
    """One sentence about both wishes, one about each in any order, or one about the own alone."""
    chance = rng.random()
    if chance < 0.4:
        return [rng.choice(_BOTH)]
    if chance < 0.85:
        return rng.sample([rng.choice(_OWN), rng.choice(_OTHER)], 2)
    return [rng.choice(_OWN)]
