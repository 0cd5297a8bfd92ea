from __future__ import annotations

import math
from itertools import pairwise, product

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from foreword.data.spans import TagError, tags_to_entities
from foreword.tasks.making.viterbi import best_valid, count_transitions

TAGS = ("O", "B-A", "I-A", "B-C-A", "I-C-A")


def is_valid(path, tags=TAGS):
    try:
        tags_to_entities([tags[tag] for tag in path], "IOB2")
    except TagError:
        return False
    return True


@given(words=st.integers(1, 5), seed=st.integers(0, 10_000), order=st.permutations(range(len(TAGS))))
def test_as_good_as_the_best_of_all_valid_sequences(words, seed, order):
    tags = tuple(TAGS[number] for number in order)
    scores = (3 * torch.randn(words, len(tags), generator=torch.Generator().manual_seed(seed))).log_softmax(-1)

    def total(path):
        return sum(float(scores[word, tag]) for word, tag in enumerate(path))

    valid = [path for path in product(range(len(tags)), repeat=words) if is_valid(path, tags)]
    found = best_valid(scores, tags)
    assert is_valid(found, tags)
    assert total(found) == pytest.approx(max(map(total, valid)), abs=1e-5)


def pull(tags, transitions, before, after):
    """log P(after | before) - log P(after), every step taken to have been seen a tenth of a time more."""
    seen = {(a, b): transitions.get(a, {}).get(b, 0) + 0.1 for a in (*tags, "") for b in (*tags, "")}
    after_before = seen[before, after] / sum(n for (a, _), n in seen.items() if a == before)
    anywhere = sum(n for (_, b), n in seen.items() if b == after) / sum(seen.values())
    return math.log(after_before) - math.log(anywhere)


@given(
    words=st.integers(1, 4),
    seed=st.integers(0, 10_000),
    weight=st.sampled_from([0.0, 0.5, 1.0]),
    counts=st.dictionaries(st.tuples(st.sampled_from([*TAGS, ""]), st.sampled_from([*TAGS, ""])), st.integers(0, 50)),
)
def test_with_transitions_as_good_as_the_best_of_all_valid_sequences(words, seed, weight, counts):
    transitions = {}
    for (before, after), times in counts.items():
        transitions.setdefault(before, {})[after] = times
    scores = (3 * torch.randn(words, len(TAGS), generator=torch.Generator().manual_seed(seed))).log_softmax(-1)

    def total(path):
        names = ["", *(TAGS[tag] for tag in path), ""]
        steps = sum(pull(TAGS, transitions, a, b) for a, b in pairwise(names))
        return weight * steps + sum(float(scores[word, tag]) for word, tag in enumerate(path))

    valid = [path for path in product(range(len(TAGS)), repeat=words) if is_valid(path)]
    found = best_valid(scores, TAGS, transitions, weight)
    assert is_valid(found)
    assert total(found) == pytest.approx(max(map(total, valid)), abs=1e-6)


def test_transitions_are_counted_from_border_to_border():
    assert count_transitions([["O", "B-A", "I-A"], ["O", "O"], ["O"]]) == {
        "": {"O": 3},
        "B-A": {"I-A": 1},
        "I-A": {"": 1},
        "O": {"": 2, "B-A": 1, "O": 1},
    }


def test_tags_that_are_not_asked_for_count_nothing():
    scores = torch.randn(4, len(TAGS), generator=torch.Generator().manual_seed(3)).log_softmax(-1)
    known = {"O": {"B-A": 9}, "B-A": {"I-A": 5}}
    strange = {**known, "B-Z": {"O": 1000}, "O": {"B-A": 9, "B-Z": 1000}}
    assert best_valid(scores, TAGS, strange) == best_valid(scores, TAGS, known)


@given(words=st.integers(1, 12), seed=st.integers(0, 10_000))
def test_where_the_best_tags_are_valid_they_are_kept(words, seed):
    scores = torch.randn(words, len(TAGS), generator=torch.Generator().manual_seed(seed)).log_softmax(-1)
    greedy = scores.argmax(-1).tolist()
    if is_valid(greedy):
        assert best_valid(scores, TAGS) == greedy
    else:
        assert best_valid(scores, TAGS) != greedy


@given(rows=st.lists(st.lists(st.sampled_from([0.0, -1.0, -float("inf")]), min_size=5, max_size=5), max_size=6))
def test_impossible_tags_never_force_a_sequence_that_is_not_valid(rows):
    found = best_valid(torch.tensor(rows).reshape(-1, 5), TAGS)
    assert len(found) == len(rows)
    assert is_valid(found)


def test_an_i_that_continues_nothing_by_hand():
    # Greedy: O I-A. Allowed: O O (-0.1 - 2.0), O B-A (-0.1 - 1.0), B-A I-A (-2.4 - 0.6).
    scores = torch.tensor([[-0.1, -2.4, -9.0, -9.0, -9.0], [-2.0, -1.0, -0.6, -9.0, -9.0]])
    assert best_valid(scores, TAGS) == [0, 1]
    scores[0, 1] = -0.4  # now B-A I-A: -1.0
    assert best_valid(scores, TAGS) == [1, 2]
