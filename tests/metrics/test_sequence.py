import random
import warnings

import pytest
from hypothesis import given
from hypothesis import strategies as st
from seqeval.metrics import classification_report

from foreword.data.examples import Entity
from foreword.data.readers import read_records
from foreword.data.spans import entities_to_tags, repair_entities
from foreword.metrics.sequence import entity_scores
from foreword.tasks import NER
from real_data import needs_real_data, real_data

TAGS = ("O", "B-PER", "I-PER", "B-LOC", "I-LOC")


@st.composite
def gold_and_predicted(draw):
    """Tag sequences of equal lengths, valid or not."""
    lengths = draw(st.lists(st.integers(1, 8), min_size=1, max_size=5))
    return tuple([draw(st.lists(st.sampled_from(TAGS), min_size=n, max_size=n)) for n in lengths] for _ in range(2))


def assert_agrees_with_seqeval(ours, gold, predicted, types):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        report = classification_report(gold, predicted, output_dict=True, zero_division=0)
    assert {name for name in report if not name.endswith("avg")} == types
    for row, suffix in [("micro avg", ""), *((kind, f"/{kind}") for kind in types)]:
        assert ours.values[f"precision{suffix}"] == pytest.approx(report[row]["precision"])
        assert ours.values[f"recall{suffix}"] == pytest.approx(report[row]["recall"])
        assert ours.values[f"f1{suffix}"] == pytest.approx(report[row]["f1-score"])
        assert ours.counts[f"gold{suffix}"] == report[row]["support"]


@given(case=gold_and_predicted())
def test_scores_agree_with_seqeval(case):
    gold, predicted = case
    ours = entity_scores(list(map(repair_entities, gold)), list(map(repair_entities, predicted)))
    types = {tag[2:] for tags in gold + predicted for tag in tags if tag != "O"}
    if not types:  # seqeval has no report for a corpus without entities
        assert ours.values == {"precision": 0.0, "recall": 0.0, "f1": 0.0}
        return
    assert_agrees_with_seqeval(ours, gold, predicted, types)


@needs_real_data
@pytest.mark.parametrize(
    ("name", "settings", "entities"),
    [
        ("conll2003/eng.testa", {}, 5942),
        ("conll04/dev.txt", {"invalid_tags": "repair"}, 877),
        ("bc5cdr/devel.tsv", {}, 9593),
    ],
)
def test_real_entities_are_counted_and_scored_as_seqeval_does(name, settings, entities):
    """Predictions are the gold tags of the words, with every seventh tag swapped for one that stands elsewhere."""
    examples = NER(**settings).read(read_records(real_data() / name, "conll"), labelled=True)
    gold = [entities_to_tags(example.entities, len(example.words), "IOB2") for example in examples]
    generator = random.Random(0)
    others = sorted({tag for tags in gold for tag in tags})
    predicted = [[generator.choice(others) if generator.random() < 1 / 7 else tag for tag in tags] for tags in gold]
    ours = entity_scores([example.entities for example in examples], list(map(repair_entities, predicted)))
    assert ours.counts["gold"] == entities
    assert 0.3 < ours.main_value < 0.9
    assert_agrees_with_seqeval(ours, gold, predicted, {tag[2:] for tag in others} - {""})


def test_scores_by_hand():
    gold = [[Entity(0, 2, "PER"), Entity(3, 4, "LOC")], [Entity(0, 1, "LOC")], []]
    predicted = [
        [Entity(0, 2, "PER"), Entity(3, 4, "ORG")],  # right; right place but wrong type
        [Entity(0, 2, "LOC")],  # too long
        [Entity(0, 2, "PER"), Entity(0, 2, "PER")],  # of another sequence; given twice, counted once
    ]
    scores = entity_scores(gold, predicted)
    assert scores.main == "f1"
    assert scores.main_value == pytest.approx(2 / 7)
    assert scores.values["precision"] == pytest.approx(1 / 4)
    assert scores.values["recall"] == pytest.approx(1 / 3)
    assert scores.values["f1/PER"] == pytest.approx(2 / 3)
    assert scores.values["f1/LOC"] == 0.0
    assert scores.values["precision/ORG"] == 0.0
    assert scores.counts == {
        "sequences": 3,
        "gold": 3,
        "predicted": 4,
        "correct": 1,
        "gold/LOC": 2,
        "predicted/LOC": 1,
        "correct/LOC": 0,
        "gold/ORG": 0,
        "predicted/ORG": 1,
        "correct/ORG": 0,
        "gold/PER": 1,
        "predicted/PER": 2,
        "correct/PER": 1,
    }


def test_all_right():
    entities = [{Entity(0, 1, "PER")}, set()]
    assert set(entity_scores(entities, entities).values.values()) == {1.0}
