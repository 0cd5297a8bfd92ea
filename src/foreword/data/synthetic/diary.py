"""Diary sentences with named entities, as words with IOB2 tags.

Surnames and towns are made from the same syllables, months are also first names, and firms are
called after both: often only the sentence says which is meant.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from random import Random
from typing import NamedTuple

from foreword.data.synthetic.drawing import draw_new, pieces

TYPES = ("PERSON", "PLACE", "ORGANISATION", "DATE")
"""The entity types."""


class Token(NamedTuple):
    """One word or punctuation mark and its IOB2 tag."""

    text: str
    tag: str


# Words and marks stand apart already, so that a sentence is split at its spaces.
_SENTENCES = """
Met {PERSON} for lunch , then walked to {PLACE} along the river .
{PERSON} called from {PLACE} ; the roof is leaking again .
The train to {PLACE} was late , so {PERSON} took the bus .
{ORGANISATION} wrote to say that my form must be in by {DATE} .
On {DATE} I start work at {ORGANISATION} .
{PERSON} left {ORGANISATION} on {DATE} and seems happier for it .
Spent {DATE} in {PLACE} with {PERSON} and her sister {PERSON} .
It rained all day in {PLACE} .
{PLACE} is prettier than {PLACE} , I think .
{PLACE} has a new bridge , and {ORGANISATION} paid for half of it .
{PERSON} has a new coat , and paid far too much for it .
My cousin {PERSON} moves to {PLACE} on {DATE} .
We drove through {PLACE} and {PLACE} before dark .
Nobody at {ORGANISATION} answers the telephone .
Asked {PERSON} whether {PERSON} still lives near {PLACE} .
A letter from {ORGANISATION} came on {DATE} , addressed to {PERSON} .
The choir sang in {PLACE} , and {PERSON} forgot the words .
{PERSON} and {PERSON} argued about the price of bread .
Bought a lamp from {ORGANISATION} in {PLACE} .
Dinner with {PERSON} of {ORGANISATION} ; he talks of nothing but golf .
By {DATE} the snow in {PLACE} was gone .
I may go to {PLACE} , or I may stay in bed .
We march up the hill behind {PLACE} every Sunday morning .
Will {PERSON} ever return my ladder ?
{PERSON} will bring the cake on {DATE} .
The bank was closed , so I asked {PERSON} for ten dollars .
Slept badly . The dog barked until four .
Nothing much today , only soup and a long bath .
The museum was full of school children .
{ORGANISATION} beat {ORGANISATION} by two goals .
Wrote to {ORGANISATION} about the noise , with a copy to {PERSON} .
{PERSON} was born in {PLACE} on {DATE} .
The road from {PLACE} to {PLACE} is shut until {DATE} .
Heard that {ORGANISATION} is opening an office in {PLACE} .
{DATE} : {PERSON} came to mend the boiler .
{DATE} : walked to {PLACE} and back , eleven miles .
Visited {PLACE} , where {PERSON} used to teach .
Saw {PERSON} , who used to teach with me .
""".strip().split("\n")


def _words(text: str) -> list[str]:
    return text.split()


_STARTS = _words("Al Bar Cal Dor El Fen Gar Hal Il Kel Lan Mar Nor Or Pel Ros Sel Tam Ul Ver Wen Yar")
_MIDDLES = ["", "", "a", "der", "en", "in", "or", "we"]
_ENDS = _words("bridge bury by combe dale field ford gate ham ley mere stead ton wick worth")
_FIRST_STARTS = _words("Ad Be Cla Da El Fa Jo Ka Le Mi Na Os Pe Ro Sa Te Vi")
_FIRST_ENDS = _words("bel dan lia mon na nor ra ric rin sa sim tha vid")
_MONTHS = _words("January February March April May June July August September October November December")
_MONTH_NAMES = ["April", "May", "June", "August"]
_WEEKDAYS = _words("Monday Tuesday Wednesday Thursday Friday Saturday")
_FIRMS = ["{0} Council", "{0} & Sons", "{0} United", "{0} Library", "Bank of {0}", "{0} Water Company"]
_FIRMS += ["{0} and {1}", "University of {0}", "{0} Rail", "{0}"]


def make_diary(rng: Random, count: int, seen: set[Hashable]) -> list[list[Token]]:
    """``count`` tagged sentences, no two alike.

    Args:
        rng: where all chance comes from.
        seen: sentences, as joined by spaces, to avoid; those made here are added.
    """
    # Some names come again, as names in a diary do; the others are used once.
    known = [_make_root(rng) for _ in range(30)]
    return [draw_new(lambda: _sentence(rng, known), _text, seen) for _ in range(count)]


def _text(sentence: list[Token]) -> str:
    return " ".join(token.text for token in sentence)


def _sentence(rng: Random, known: list[str]) -> list[Token]:
    def root() -> str:
        return rng.choice(known) if rng.random() < 0.5 else _make_root(rng)

    # A sentence may want one type twice: each place is filled by itself.
    tokens: list[Token] = []
    for piece in pieces(rng.choice(_SENTENCES), dict.fromkeys(TYPES, "?")):
        words = _NAMES[piece.slot](rng, root) if piece.slot else piece.text
        tokens += _tagged(words.split(), piece.slot)
    return tokens


def _tagged(words: list[str], type_: str | None) -> list[Token]:
    if type_ is None:
        return [Token(word, "O") for word in words]
    return [Token(word, f"{'I' if index else 'B'}-{type_}") for index, word in enumerate(words)]


def _make_root(rng: Random) -> str:
    return rng.choice(_STARTS) + rng.choice(_MIDDLES) + rng.choice(_ENDS)


def _person(rng: Random, root: Callable[[], str]) -> str:
    first = rng.choice(_FIRST_STARTS) + rng.choice(_FIRST_ENDS)
    if rng.random() < 0.15:
        first = rng.choice(_MONTH_NAMES)
    return rng.choice([first, f"{first} {root()}", f"{first} {root()}", root(), f"Dr {root()}"])


def _place(rng: Random, root: Callable[[], str]) -> str:
    return rng.choice(["{0}", "{0}", "{0}", "Upper {0}", "Port {0}", "{0} Hill"]).format(root())


def _organisation(rng: Random, root: Callable[[], str]) -> str:
    return rng.choice(_FIRMS).format(root(), root())


def _date(rng: Random, root: Callable[[], str]) -> str:
    del root
    day, month = rng.randrange(1, 29), rng.choice(_MONTHS)
    return rng.choice([f"{day} {month}", f"{month} {day}", rng.choice(_WEEKDAYS), month])


_NAMES: dict[str, Callable[[Random, Callable[[], str]], str]] = {
    "PERSON": _person,
    "PLACE": _place,
    "ORGANISATION": _organisation,
    "DATE": _date,
}
