import pytest

from foreword.metrics.qa import answer_scores, normalise_answer


@pytest.mark.parametrize(
    ("text", "normal"),
    [
        ("The  Cat, sat!", "cat sat"),
        ("a cat and an owl\n", "cat and owl"),
        ("Theodore's anthem", "theodores anthem"),
        ("the-end", "theend"),
        ("U.S.", "us"),
        ("the a", ""),
        ("\u00ab caf\u00e9 \u00bb", "\u00ab caf\u00e9 \u00bb"),  # only ASCII punctuation goes
    ],
)
def test_normalisation(text, normal):
    assert normalise_answer(text) == normal


@pytest.mark.parametrize(
    ("gold", "predicted", "f1", "exact"),
    [
        (["The Cat"], "cat.", 1.0, 1.0),
        (["in 1990", "1990"], "the 1990", 1.0, 1.0),
        (["big black cat"], "black cat sat there", 2 * (2 / 4) * (2 / 3) / (2 / 4 + 2 / 3), 0.0),
        (["x x y"], "x x x", 2 / 3, 0.0),
        (["dog", "black cat"], "cat", 2 * 1 * (1 / 2) / (1 + 1 / 2), 0.0),
        (["cat"], "dog", 0.0, 0.0),
        (["cat"], "", 0.0, 0.0),
        ([], "", 1.0, 1.0),
        ([], " The. ", 1.0, 1.0),
        ([], "cat", 0.0, 0.0),
        (["the", "cat"], "", 0.0, 0.0),
        (["the"], "", 1.0, 1.0),
    ],
)
def test_one_question(gold, predicted, f1, exact):
    scores = answer_scores([gold], [predicted])
    assert scores.main == "f1"
    assert scores.main_value == pytest.approx(f1)
    assert scores.values["exact_match"] == exact
    group = "has_answer" if gold else "no_answer"
    assert scores.values[f"{group}_f1"] == pytest.approx(f1)
    assert scores.values[f"{group}_exact_match"] == exact


def test_questions_are_averaged_and_split():
    scores = answer_scores([["cat"], ["black cat"], [], []], ["cat", "cat", "", "dog"])
    assert scores.counts == {"questions": 4, "has_answer": 2, "no_answer": 2}
    assert scores.values == pytest.approx(
        {
            "f1": (1 + 2 / 3 + 1 + 0) / 4,
            "exact_match": 2 / 4,
            "has_answer_f1": (1 + 2 / 3) / 2,
            "has_answer_exact_match": 1 / 2,
            "no_answer_f1": 1 / 2,
            "no_answer_exact_match": 1 / 2,
        }
    )


def test_a_part_without_questions_has_no_value():
    assert set(answer_scores([["cat"]], ["cat"]).values) == {
        "f1",
        "exact_match",
        "has_answer_f1",
        "has_answer_exact_match",
    }
