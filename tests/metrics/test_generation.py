"""Scores of texts: by hand, against the libraries' own functions on one reference, and what must hold of them all."""

from __future__ import annotations

import math

import pytest
import sacrebleu
from hypothesis import given
from hypothesis import strategies as st
from rouge_score.rouge_scorer import RougeScorer

from foreword.errors import TaskError
from foreword.metrics import generation
from foreword.metrics.generation import check_metrics, has_wordnet, text_scores

ALL = ("bleu", "chrf", "rouge", "nist")
CAT = "the cat sat on the mat"
WORDS = st.sampled_from(["the", "a", "cat", "dog", "sat", "ran", "on", "under", "mat", "house", ".", ",", "quickly"])
SENTENCES = st.lists(WORDS, min_size=2, max_size=10).map(lambda words: " ".join(["the", "cat", *words]))
PAIRS = st.lists(st.tuples(SENTENCES, SENTENCES), min_size=1, max_size=6)


def values(references, texts, metrics=ALL, **options):
    scores = text_scores(references, texts, metrics, **options)
    return {**scores.values, **scores.measures}


def test_bleu_by_hand():
    # Of "the cat sat on a mat" against "the cat sat on the mat": 5/6 words, 3/5 pairs, 2/4 triples, 1/3 fours.
    found = values([[CAT]], ["the cat sat on a mat"])
    assert found["bleu"] == pytest.approx((5 / 6 * 3 / 5 * 2 / 4 * 1 / 3) ** 0.25)
    # All n-grams of a text of five words are there, and it is short of six.
    assert values([[CAT]], ["the cat sat on the"])["bleu"] == pytest.approx(math.exp(1 - 6 / 5))


def test_bleu_takes_n_grams_and_the_length_of_any_reference():
    references = [["the cat sat on the mat today", "a dog sat on the house"]]
    # "the cat sat on the house": words 6/6; pairs 5/5; triples: "sat on the", "on the house", "the cat sat",
    # "cat sat on" 4/4; fours: "the cat sat on", "cat sat on the", "sat on the house" 3/3; length 6 is a reference's.
    assert values(references, ["the cat sat on the house"])["bleu"] == pytest.approx(1.0)


def test_rouge_by_hand_is_that_of_the_best_reference():
    # Against the first: 2 of 4 and 2 of 6 words; against the second all of 4 and 4 of 5.
    found = values([[CAT, "a dog ran quickly under"]], ["a dog ran under"])
    assert found["rouge1"] == pytest.approx(2 * 1 * 0.8 / 1.8)
    assert found["rouge2"] == pytest.approx(2 * (2 / 3) * (2 / 4) / (2 / 3 + 2 / 4))
    assert found["rougeL"] == pytest.approx(2 * 1 * 0.8 / 1.8)


def test_nist_by_hand():
    # Four words that occur once in the only reference, so each carries log2(4 / 1) = 2 bits; a pair given its first
    # word carries log2(1 / 1) = 0, and so do longer ones.
    assert values([["we like green tea"]], ["we like green tea"])["nist"] == pytest.approx(2.0)


def test_texts_may_have_different_numbers_of_references():
    references = [["the cat sat on the mat"], ["a dog ran under the house", "the dog ran under a house"]]
    texts = ["the cat sat on the mat", "the dog ran under a house"]
    found = values(references, texts)
    assert found["bleu"] == pytest.approx(1.0)
    assert found["chrf"] == pytest.approx(1.0)
    counts = text_scores(references, [*texts[:1], " "], ALL).counts
    assert counts == {"items": 2, "references": 3, "empty": 1}


@given(PAIRS)
def test_one_reference_is_the_libraries_corpus_score(pairs):
    references, texts = zip(*pairs, strict=True)
    found = values([[reference] for reference in references], texts)
    assert found["bleu"] == pytest.approx(sacrebleu.corpus_bleu(texts, [references]).score / 100, abs=1e-12)
    assert found["chrf"] == pytest.approx(sacrebleu.corpus_chrf(texts, [references]).score / 100, abs=1e-12)
    scorer = RougeScorer(["rouge1", "rouge2", "rougeL"], use_stemmer=True)
    for name in ("rouge1", "rouge2", "rougeL"):
        each = [scorer.score(*pair)[name].fmeasure for pair in pairs]
        assert found[name] == pytest.approx(sum(each) / len(each))


@given(PAIRS)
def test_a_perfect_text_has_all(pairs):
    references = [[one, other] for one, other in pairs]
    found = text_scores(references, [one for one, _ in pairs], ALL)
    for name, value in found.values.items():
        assert value == pytest.approx(1.0), name


@given(PAIRS, st.randoms())
def test_order_of_items_and_of_references_does_not_matter(pairs, random):
    items = [([one, other], one[::-1]) for one, other in pairs]
    shuffled = [(random.sample(references, 2), text) for references, text in items]
    random.shuffle(shuffled)
    first, second = (values(*map(list, zip(*some, strict=True))) for some in (items, shuffled))
    assert first == pytest.approx(second)


@given(PAIRS)
def test_another_reference_never_makes_rouge_worse(pairs):
    texts = [f"{one.split()[0]} {other}" for one, other in pairs]
    one, both = (values([refs[:count] for refs in pairs], texts, ("rouge",)) for count in (1, 2))
    assert all(both[name] >= one[name] - 1e-12 for name in one)


def test_lower_case_is_asked_for():
    assert values([[CAT]], [CAT.title()], ("bleu",))["bleu"] < 0.5
    assert values([[CAT]], [CAT.title()], ("bleu",), lowercase=True)["bleu"] == pytest.approx(1.0)


def test_texts_without_a_word_are_scored_zero():
    found = values([[CAT], [CAT]], ["", " "])
    assert set(found.values()) == {0.0}


@pytest.mark.parametrize(
    ("references", "texts", "metrics", "says"),
    [
        ([], [], ("bleu",), "no items"),
        ([[CAT]], [], ("bleu",), "1 gold items but 0"),
        ([[]], [CAT], ("bleu",), "without a reference"),
        ([[CAT]], [CAT], ("nist", "bleu"), "no fixed scale"),
    ],
)
def test_what_cannot_be_scored(references, texts, metrics, says):
    with pytest.raises(ValueError, match=says):
        text_scores(references, texts, metrics)


def test_the_first_metric_is_the_main_value():
    assert text_scores([[CAT]], [CAT], ("rouge", "bleu")).main == "rouge2"
    assert text_scores([[CAT]], [CAT], ("chrf",)).main == "chrf"


def test_a_missing_library_is_told_with_its_extra(monkeypatch):
    monkeypatch.setattr(generation, "find_spec", lambda name: None if name == "rouge_score" else name)
    check_metrics(("bleu", "chrf", "nist"))
    with pytest.raises(TaskError, match=r"'rouge' needs the library `rouge_score`.*foreword\[generation\]"):
        check_metrics(("bleu", "rouge"))


def test_missing_data_of_meteor_is_told(monkeypatch):
    monkeypatch.setattr(generation, "has_wordnet", lambda: False)
    with pytest.raises(TaskError, match=r"nltk.downloader wordnet"):
        check_metrics(("bleu", "meteor"))


@pytest.mark.skipif(not has_wordnet(), reason="needs the WordNet data of nltk")
def test_meteor_by_hand():
    check_metrics(("meteor",))
    # One chunk of six words: the penalty is 0.5 / 6^3.
    assert values([[CAT]], [CAT], ("meteor",))["meteor"] == pytest.approx(1 - 0.5 / 216)
    assert values([[CAT], ["a dog"]], ["quickly", "a dog"], ("meteor",))["meteor"] == pytest.approx((1 - 0.5 / 8) / 2)
