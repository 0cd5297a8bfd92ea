"""Short public notices with questions, in the shape of SQuAD 2.0.

A notice states some of the facts of its kind and keeps silent on the others. Questions about
stated facts have an answer; those about the others have none. One question in five has none.
"""

from __future__ import annotations

from collections.abc import Hashable
from functools import partial
from random import Random
from typing import Any, NamedTuple

from foreword.data.synthetic.drawing import draw_new, pieces

QUESTIONS_PER_NOTICE = 5
"""Four about stated facts and one about a fact that is left out."""


class _Fact(NamedTuple):
    """A sentence with slots, and questions on it: text -> the slot that answers it."""

    sentence: str
    questions: dict[str, str]


class _Notice(NamedTuple):
    context: str
    answered: list[dict[str, Any]]
    silent: list[dict[str, Any]]


_HEADINGS = {
    "Museums": "Information for visitors.",
    "Timetables": "Train service from Monday next.",
    "Recipes": "From the village cookbook.",
    "Lost property": "Lost and found.",
    "Evening classes": "New course this term.",
}
_KINDS: dict[str, list[_Fact]] = {
    "Museums": [
        _Fact(
            "The {town} Museum opens at {hour} and closes at {hour3}.",
            {"When does the museum open?": "hour", "At what time does the museum close?": "hour3"},
        ),
        _Fact("Adults pay {price2}.", {"How much is a ticket for an adult?": "price2"}),
        _Fact("For children the entrance costs {price}.", {"What does a child pay?": "price"}),
        _Fact("On {day} the rooms are closed.", {"On which day can the museum not be visited?": "day"}),
        _Fact(
            "A tour with {person} starts at {hour2} near the {spot}.",
            {"Who leads the tour?": "person", "Where does the tour begin?": "spot"},
        ),
        _Fact("Bags must be left at the {spot2}.", {"Where do visitors leave their bags?": "spot2"}),
        _Fact("The new exhibition shows {thing} until {date}.", {"What is on show in the exhibition?": "thing"}),
        _Fact("The café is run by {person2}.", {"Who runs the café?": "person2"}),
    ],
    "Timetables": [
        _Fact(
            "The first train to {town} leaves at {hour} from platform {number}.",
            {"When does the first train leave?": "hour", "From which platform does it go?": "number"},
        ),
        _Fact("The last train runs at {hour3}.", {"At what time is the last train?": "hour3"}),
        _Fact("The journey takes {minutes} minutes.", {"How many minutes does the journey last?": "minutes"}),
        _Fact("A single ticket is {price}.", {"What is the price of a single ticket?": "price"}),
        _Fact("A return ticket is {price2}.", {"How much does a return ticket cost?": "price2"}),
        _Fact("On {day} there is no service.", {"On which day do no trains run?": "day"}),
        _Fact("Passengers for {town2} change at {town3}.", {"Where does one change trains?": "town3"}),
        _Fact("Bicycles travel free after {hour2}.", {"From what time are bicycles free?": "hour2"}),
    ],
    "Recipes": [
        _Fact("This {food} serves {number} people.", {"How many people does the dish feed?": "number"}),
        _Fact("Bake it for {minutes} minutes.", {"For how many minutes should it be baked?": "minutes"}),
        _Fact("Set the oven to {degrees} degrees.", {"How hot should the oven be, in degrees?": "degrees"}),
        _Fact("Begin by mixing {ware} with {ware2}.", {"What is {ware} mixed with?": "ware2"}),
        _Fact("Leave the dough in the {spot}.", {"Where should the dough rest?": "spot"}),
        _Fact("Sprinkle {ware3} on top.", {"What goes on top?": "ware3"}),
        _Fact("The recipe comes from {person}.", {"Whose recipe is it?": "person"}),
        _Fact("It is best eaten on {day}.", {"On which day does it taste best?": "day"}),
    ],
    "Lost property": [
        _Fact(
            "{person} found {thing} near the {spot}.",
            {"Who found the lost object?": "person", "Where was the object found?": "spot"},
        ),
        _Fact("It was handed in on {date}.", {"On what date was it handed in?": "date"}),
        _Fact("The owner can collect it from {person2}.", {"Whom should the owner ask for?": "person2"}),
        _Fact("The office is in {town}.", {"In which town is the office?": "town"}),
        _Fact("It is open from {hour} to {hour2}.", {"Until what time is the office open?": "hour2"}),
        _Fact("There is a fee of {price}.", {"How much must the owner pay?": "price"}),
        _Fact("After {number} days it will be sold.", {"After how many days is it sold?": "number"}),
        _Fact("A reward of {price2} is offered.", {"How large is the reward?": "price2"}),
    ],
    "Evening classes": [
        _Fact(
            "{person} teaches {skill} in {town}.",
            {"Who is the teacher?": "person", "What is taught?": "skill"},
        ),
        _Fact("Lessons are on {day} at {hour}.", {"When on that day do lessons begin?": "hour"}),
        _Fact("Each lesson lasts {minutes} minutes.", {"How long is a lesson, in minutes?": "minutes"}),
        _Fact("The course costs {price2}.", {"What is the fee for the course?": "price2"}),
        _Fact("Students get it for {price}.", {"How much do students pay?": "price"}),
        _Fact("Bring {thing} to the first meeting.", {"What should one bring along?": "thing"}),
        _Fact("Enrol by {date} with {person2}.", {"Until what date can one enrol?": "date"}),
        _Fact("The group meets in the {spot}.", {"Where does the group meet?": "spot"}),
    ],
}
_VALUES: dict[str, list[str]] = {
    "hour": [f"{hour}:{minute:02}" for hour in range(6, 23) for minute in (0, 15, 30, 45)],
    "price": [f"{amount} dollars" for amount in range(2, 60)],
    "number": [str(number) for number in range(2, 15)],
    "minutes": [str(minutes) for minutes in range(10, 95, 5)],
    "degrees": [str(degrees) for degrees in range(150, 260, 10)],
    "day": ["Mondays", "Tuesdays", "Wednesdays", "Thursdays", "Fridays", "Saturdays", "Sundays"],
    "date": [f"{day} {month}" for month in ("March", "June", "October") for day in range(1, 29)],
    "town": ["Belmere", "Corham", "Dunwick", "Easterby", "Fallowton", "Garstead", "Hollin", "Ivercombe"],
    "person": [
        f"{title} {name}"
        for title in ("Mr", "Ms", "Dr", "Professor")
        for name in ("Abelwood", "Brindlow", "Carrick", "Dovell", "Elmstone", "Farrowby", "Greyling", "Hathe")
    ],
    "spot": [
        "east door",
        "fountain",
        "old stable",
        "reading room",
        "garden gate",
        "pantry",
        "cellar",
        "porch",
    ],
    "thing": [
        "a red scarf",
        "two silver spoons",
        "a brass clock",
        "old maps",
        "a blue notebook",
        "glass birds",
    ],
    "food": ["apple cake", "onion pie", "walnut bread", "plum tart", "cheese loaf", "pear pudding"],
    "ware": ["flour", "butter", "honey", "ground almonds", "sour cream", "brown sugar", "oats", "raisins"],
    "skill": ["drawing", "Spanish", "carpentry", "bookkeeping", "watercolour painting", "choir singing"],
}
_RISING = ("hour", "price")
"""Sorts whose three values come in order, so that nothing closes before it opens."""


def make_notices(rng: Random, questions: int, name: str, seen: set[Hashable]) -> dict[str, Any]:
    """Notices with ``questions`` questions in all, as one SQuAD 2.0 object.

    Args:
        rng: where all chance comes from.
        name: what ids begin with.
        seen: contexts to avoid; those made here are added.
    """
    articles: dict[str, list[dict[str, Any]]] = {kind: [] for kind in _KINDS}
    for first in range(0, questions, QUESTIONS_PER_NOTICE):
        kind = list(_KINDS)[first // QUESTIONS_PER_NOTICE % len(_KINDS)]
        notice = draw_new(partial(_notice, rng, kind), lambda item: item.context, seen)
        asked = _ask(rng, notice)[: questions - first]
        for number, question in enumerate(asked, start=first + 1):
            question["id"] = f"{name}-{number:05}"
        articles[kind].append({"context": notice.context, "qas": asked})
    data = [{"title": kind, "paragraphs": found} for kind, found in articles.items() if found]
    return {"version": "v2.0", "data": data}


def _ask(rng: Random, notice: _Notice) -> list[dict[str, Any]]:
    asked = [*rng.sample(notice.answered, QUESTIONS_PER_NOTICE - 1), rng.choice(notice.silent)]
    return rng.sample(asked, len(asked))


def _notice(rng: Random, kind: str) -> _Notice:
    facts = _KINDS[kind]
    values = _draw_values(rng)
    stated = sorted(rng.sample(range(len(facts)), rng.randrange(4, 6)))
    context = _HEADINGS[kind]
    answered: list[dict[str, Any]] = []
    for index in stated:
        sentence, starts = _state(facts[index].sentence, values)
        begin = len(context) + 1
        context = f"{context} {sentence}"
        for text, slot in facts[index].questions.items():
            answer = {"text": values[slot], "answer_start": begin + starts[slot]}
            answered.append(_question(text.format(**values), [answer]))
    silent = [
        _question(text.format(**values), [])
        for index, fact in enumerate(facts)
        if index not in stated
        for text in fact.questions
    ]
    return _Notice(context, answered, silent)


def _question(text: str, answers: list[dict[str, Any]]) -> dict[str, Any]:
    return {"id": "", "question": text, "answers": answers, "is_impossible": not answers}


def _draw_values(rng: Random) -> dict[str, str]:
    """Three different values of each sort, for the slots ``sort``, ``sort2`` and ``sort3``."""
    slots: dict[str, str] = {}
    for sort, values in _VALUES.items():
        drawn = rng.sample(values, 3)
        if sort in _RISING:
            drawn.sort(key=values.index)
        slots |= zip((sort, f"{sort}2", f"{sort}3"), drawn, strict=True)
    return slots


def _state(template: str, values: dict[str, str]) -> tuple[str, dict[str, int]]:
    """The sentence, and the character in it where each slot begins."""
    sentence, starts = "", {}
    for piece in pieces(template, values):
        if piece.slot:
            starts[piece.slot] = len(sentence)
        sentence += piece.text
    return sentence, starts
