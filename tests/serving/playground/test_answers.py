"""What is asked, and how answers are shown."""

from __future__ import annotations

import pytest

from foreword.registry import Registry
from playground_page import KINDS, TEXT, Playground, alone, drawn_spans
from serving_at import Served


def percent(share: float) -> str:
    return f"{100 * share:.1f}%"


def test_labels_with_their_probabilities_the_highest_first(playground: Playground, registry: Registry):
    playground.choose("classification").fill(text=TEXT).ask()
    answer = alone(registry, "classification", {"text": TEXT})
    shares = sorted(answer["probabilities"].items(), key=lambda pair: -pair[1])
    assert playground.text(".card .big") == answer["label"]
    assert playground.texts(".card .bars bdi") == [label for label, _ in shares]
    shown = [float(text.rstrip("%")) for text in playground.texts(".card .bars .value")]
    assert shown == pytest.approx([100 * share for _, share in shares], abs=0.11)
    widths = playground.page.eval_on_selector_all(".card .fill", "nodes => nodes.map(n => parseFloat(n.style.width))")
    assert widths == pytest.approx([100 * share for _, share in shares], abs=0.01)


def test_who_answered_and_how_long_it_took(playground: Playground, registry: Registry, server: Served):
    playground.choose("classification").ask()
    version = registry.resolve("classification")
    card, reply = playground.text(".card footer"), playground.text(".reply > .facts")
    assert version.reference in card
    assert version.digest[:12] in card
    assert server.engine.backbone.identity.weights[:12] in card
    for word in ("Round trip", "In the server", "Forward", "Queue", "1 row of 1 task", "Request"):
        assert word in reply
    assert playground.text("#status").startswith("1 answer in ")


@pytest.mark.parametrize(("task", "key", "label"), [("ner", "entities", "type"), ("srl", "roles", "role")])
def test_stretches_are_marked_where_they_are(playground, registry, task, key, label):
    """Offsets count code points, and the text has characters that JavaScript counts twice."""
    playground.choose(task).fill(text=TEXT)
    if task == "srl":
        playground.page.locator(".words label", has_text="visited").click()
    playground.ask()
    record = {"text": TEXT} | ({"predicate": 3} if task == "srl" else {})
    answer = alone(registry, task, record)
    expected = [(TEXT[one["start"] : one["end"]], one[label]) for one in answer[key]]
    expected += [(TEXT[one["start"] : one["end"]], "predicate") for one in answer.get("predicate", ())]
    assert ("visited", "predicate") in expected or task == "ner"
    assert sorted(drawn_spans(playground.page)) == sorted(expected)
    assert len(expected) > 1
    assert set(playground.texts(".legend bdi")) == {name for _, name in expected}


def test_the_answer_is_marked_in_its_context(playground: Playground, registry: Registry):
    record = {"question": "Who visited London?", "context": TEXT + " Anna Smith came too."}
    playground.choose("qa").fill(**record).page.get_by_text("Options").click()
    playground.page.get_by_label("Other answers to list").fill("3")
    playground.ask()
    answer = alone(registry, "qa", record)
    assert playground.text(".card .big") == (answer["answer"] or "no answer")
    if answer["answer"] is not None:
        assert drawn_spans(playground.page) == [(answer["answer"], "answer")]
        before = playground.page.evaluate("document.querySelector('mark').previousSibling?.textContent ?? ''")
        assert before == record["context"][: answer["start"]]
    assert playground.asked[-1]["options"] == {"candidates": 3}
    assert len(playground.texts(".card div > .bars li")) == 3


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_task_is_drawn_from_its_example(playground: Playground, kind: str):
    """What nobody thought of would be shown as JSON."""
    playground.choose(kind).ask()
    assert playground.page.locator(".problem").count() == 0
    assert playground.page.locator(".card").count() == 1
    assert playground.page.locator(".card > pre").count() == 0
    assert playground.page.locator(".card :is(.big, .text, .bars)").count() > 0


def test_answers_of_other_models_are_drawn_too(playground: Playground):
    """Kinds that no tiny encoder has: written texts, words, and what is not known yet."""
    shown = playground.page.evaluate(
        """answers => answers.map(answer => drawn(answer, {}, {}).map(node => node.textContent).join(" | "))""",
        [
            {"id": "0", "text": "It rains."},
            {"id": "0", "text": ""},
            {"id": "0", "label": None, "text": "some"},
            {"id": "0", "label": "yes", "text": "yes"},
            {"id": "0", "word": "paris", "probability": 0.5},
            {"id": "0", "answer": None, "start": None, "end": None, "probability": 0.25},
            {"id": "0", "labels": [], "probabilities": {"a": 0.1}},
            {"id": "0", "text": "Nobody", "entities": []},
            {"id": "0", "image": 3},
        ],
    )
    assert shown == [
        "It rains.",
        "nothing was written",
        "no label | some",
        "yes | yes",
        "paris | paris50.0%",
        "no answer | no answer25.0%",
        "no label | a10.0%",
        "Nobody | Nothing was found in it.",
        '{\n  "id": "0",\n  "image": 3\n}',
    ]


def test_several_tasks_are_asked_of_one_text_at_once(playground: Playground, registry: Registry):
    playground.choose("ner", "classification", "evil").fill(text="Peter was in London").ask()
    assert playground.asked == [
        {"tasks": ["classification", "ner", "evil"], "inputs": [{"text": "Peter was in London"}]}
    ]
    assert playground.texts(".card h3") == ["classification", "ner", "evil"]
    assert (
        playground.texts(".card .big")[0] == alone(registry, "classification", {"text": "Peter was in London"})["label"]
    )


def test_tasks_that_read_other_fields_are_asked_in_the_same_request(playground: Playground):
    playground.choose("classification", "qa").fill(text="one", question="two?", context="three").ask()
    assert playground.asked == [
        {
            "inputs": [
                {"task": "classification", "text": "one"},
                {"task": "qa", "question": "two?", "context": "three"},
            ]
        }
    ]
    assert playground.page.locator(".card").count() == 2


def test_versions_answer_as_an_ensemble(playground: Playground, registry: Registry):
    playground.choose("classification", "evil").fill(text=TEXT).page.locator(".versions summary").click()
    playground.page.locator(".picks input[value='1']").check()
    playground.page.get_by_label("How versions of classification vote").select_option("majority")
    playground.ask()
    members = ["classification:1", "classification:3"]
    assert sorted(playground.asked, key=str) == [
        {"ensemble": {"members": members, "vote": "majority"}, "inputs": [{"text": TEXT}]},
        {"task": "evil", "inputs": [{"text": TEXT}]},
    ]
    answers = [alone(registry, member, {"text": TEXT}) for member in members]
    rows = [row.split("\t") for row in playground.texts(".card tbody tr")]
    assert [row[:2] for row in rows] == [["1", answers[0]["label"]], ["3", answers[1]["label"]]]
    assert [row[3] for row in rows] == [registry.resolve(member).digest[:12] for member in members]
    agreement = percent(1.0 if answers[0]["label"] == answers[1]["label"] else 0.5)
    card = playground.page.locator(".card", has_text="2 versions")
    assert card.locator(".bars li", has_text="Agreement").locator(".value").inner_text() == agreement


def test_one_other_version(playground: Playground):
    playground.choose("classification").page.locator(".versions summary").click()
    playground.page.locator(".picks input[value='3']").uncheck()
    playground.page.locator(".picks label", has_text="champion").click()
    playground.ask()
    assert playground.asked[-1]["task"] == "classification:2"
    assert "classification:2" in playground.text(".card footer")
