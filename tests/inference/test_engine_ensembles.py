"""Several prompts answer together, as each alone and then a vote by hand would."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import pytest

import foreword as fw
from canaries import canary, same
from foreword.artifacts.format import load_artifact
from foreword.data.sources import Source
from foreword.errors import DataError, TaskError, UnknownReference
from tiny import tiny_backbone
from tiny_artifacts import records, tiny_artifact
from tiny_writers import DATA, train, writer

ITEMS = records("classification", labelled=False)


def answered(engine: fw.Engine, handle, items) -> list[dict]:
    return engine.run([engine.encode(handle, item) for item in items])


@pytest.fixture(scope="module")
def five():
    base = load_artifact(tiny_artifact())
    return {f"v{n}": canary(base, n) for n in range(5)}


@pytest.mark.parametrize("vote", ["mean", "majority"])
def test_classes_by_hand(five, vote):
    backbone = tiny_backbone()
    engine = fw.Engine(backbone, five)
    alone = [fw.Predictor(artifact, backbone).predict(ITEMS) for artifact in five.values()]
    counts = set()
    for number, answer in enumerate(answered(engine, engine.ensemble(list(five), vote), ITEMS)):
        said = [answers[number] for answers in alone]
        labels = [one["label"] for one in said]
        counted = Counter(labels).most_common()
        chosen = [one for one in said if vote == "mean" or one["label"] == counted[0][0]]  # of five, two cannot tie
        mean = {label: sum(one["probabilities"][label] for one in chosen) / len(chosen) for label in ("no", "yes")}
        assert answer["probabilities"] == pytest.approx(mean, abs=1e-5)
        assert answer["label"] == max(mean, key=mean.get)
        assert answer["agreement"] == labels.count(answer["label"]) / 5
        assert [one["answer"]["label"] for one in answer["members"]] == labels
        assert [one["task"] for one in answer["members"]] == list(five)
        counts.add(answer["agreement"])
    assert counts != {1.0}  # they do disagree


def test_a_tie_goes_to_the_mean(five):
    backbone = tiny_backbone()
    engine = fw.Engine(backbone, five)
    for item in ITEMS:
        labels = {name: engine.predict([(name, item)])[0]["label"] for name in five}
        for one, other in [(a, b) for a in five for b in five if labels[a] != labels[b]]:
            (tied,) = answered(engine, engine.ensemble([one, other], "majority"), [item])
            (mean,) = answered(engine, engine.ensemble([one, other], "mean"), [item])
            assert tied == mean
            assert tied["agreement"] == 0.5


@pytest.mark.parametrize("task", ["ner", "qa", "multi-label", "multiple-choice", "srl", "regression"])
@pytest.mark.parametrize("vote", ["mean", "majority"])
def test_equal_members_answer_as_one(task, vote):
    backbone = tiny_backbone()
    engine = fw.Engine(backbone, {"a": canary(load_artifact(tiny_artifact(task)), 1)})
    items = records(task, labelled=False)
    for item, answer in zip(items, answered(engine, engine.ensemble(["a", "a", "a"], vote), items), strict=True):
        members, agreement = answer.pop("members"), answer.pop("agreement")
        (expected,) = engine.run([engine.encode(engine.resolve("a"), item)])
        assert agreement == 1
        assert same(answer, expected)
        assert all(same(member["answer"], expected) for member in members)


@pytest.mark.parametrize("vote", ["mean", "majority"])
def test_scores_are_those_of_the_answers(five, vote):
    """Counted by hand from what the ensemble and each member answer."""
    engine = fw.Engine(tiny_backbone(), five)
    rows = records("classification")[:3] * 5
    handle = engine.ensemble(list(five), vote)
    evaluated = engine.evaluate(handle, Source(items=tuple(rows)))
    answers = answered(engine, handle, ITEMS[:3] * 5)
    right = [answer["label"] == row["label"] for answer, row in zip(answers, rows, strict=True)]
    assert evaluated.scores.values["accuracy"] == sum(right) / len(right)
    assert evaluated.agreement == pytest.approx(sum(answer["agreement"] for answer in answers) / len(answers))
    for number, scores in enumerate(evaluated.members):
        own = [answer["members"][number]["answer"]["label"] for answer in answers]
        assert scores.values["accuracy"] == sum(a == r["label"] for a, r in zip(own, rows, strict=True)) / len(rows)
    assert len({scores.main_value for scores in evaluated.members}) > 1


@pytest.mark.parametrize("task", ["ner", "qa", "multi-label", "multiple-choice", "srl", "regression", "multirc"])
def test_one_alone_scores_as_its_predictor(task):
    artifact, backbone = canary(load_artifact(tiny_artifact(task)), 1), tiny_backbone()
    data = Source(items=tuple(records(task)))
    engine = fw.Engine(backbone, {"a": artifact})
    evaluated = engine.evaluate(engine.resolve("a"), data)
    expected = fw.Predictor(artifact, backbone).evaluate(data)
    assert evaluated.scores.values == pytest.approx(expected.values)
    assert evaluated.members == (evaluated.scores,)
    assert evaluated.agreement == 1


@pytest.mark.parametrize("vote", ["mean", "majority"])
def test_an_ensemble_has_the_verbs_of_a_predictor(five, vote):
    backbone = tiny_backbone()
    engine, ensemble = fw.Engine(backbone, five), fw.Ensemble(five, backbone, vote=vote, batch_size=7)
    handle, data = engine.ensemble(list(five), vote), Source(items=tuple(records("classification")))
    expected = engine.run([engine.encode(handle, item, number=number) for number, item in enumerate(ITEMS)])
    assert same(ensemble.predict(ITEMS), expected)
    assert ensemble.evaluate(data) == engine.evaluate(handle, data)
    long = {"text": "London " * 200}
    ensemble.predict([long, long])
    assert ensemble.warnings == ["2 inputs truncated"]


def test_an_ensemble_of_folders():
    path = tiny_artifact()
    backbone = tiny_backbone()
    (alone,) = fw.load(path, backbone).predict(ITEMS[:1])
    (answer,) = fw.load_ensemble([path], backbone).predict(ITEMS[:1])
    assert (answer.pop("agreement"), [member["task"] for member in answer.pop("members")]) == (1, [str(path)])
    assert same(answer, alone)
    for paths, told in (([], "at least one member"), ([path, path], "comes twice")):
        with pytest.raises(TaskError, match=told):
            fw.load_ensemble(paths, backbone)


def test_each_is_scored_by_what_it_chose_itself():
    """One of two that are equal but for their thresholds calls everything a yes."""
    base, backbone = load_artifact(tiny_artifact("multi-label")), tiny_backbone()
    members = {"strict": with_threshold(base, 0.999), "lax": with_threshold(base, 0.0)}
    data = Source(items=tuple(records("multi-label")))
    evaluated = fw.Ensemble(members, backbone).evaluate(data)
    alone = [fw.Predictor(artifact, backbone).evaluate(data).values for artifact in members.values()]
    assert [scores.values for scores in evaluated.members] == alone
    assert alone[0] != alone[1]
    assert evaluated.scores.values == alone[0]


def with_threshold(artifact, threshold):
    told = artifact.manifest.task
    settings = told.model_copy(update={"settings": {**told.settings, "threshold": threshold}})
    manifest = artifact.manifest.model_copy(update={"task": settings})
    return replace(artifact, manifest=manifest, task=artifact.task.model_copy(update={"threshold": threshold}))


def test_labels_are_needed_to_score(five):
    engine = fw.Engine(tiny_backbone(), five)
    with pytest.raises(DataError, match="label"):
        engine.evaluate(engine.ensemble(list(five)), Source(items=tuple(ITEMS)))


def test_written_answers_are_counted(tmp_path):
    for name, method in (("a", "prefix-tuning"), ("b", "prompt-tuning")):
        train("gpt2", method, epochs=1).save(tmp_path / name)
    engine = fw.Engine(writer("gpt2"), {name: load_artifact(tmp_path / name) for name in "ab"})
    item = {"source": DATA[0]["source"]}
    first, second = (answer["text"] for answer in engine.predict([("a", item), ("b", item)]))
    (answer,) = answered(engine, engine.ensemble(["b", "a", "a"], "majority"), [item])
    assert answer["text"] == first
    assert answer["agreement"] == pytest.approx(1 if first == second else 2 / 3)
    (tied,) = answered(engine, engine.ensemble(["b", "a"], "majority"), [item])
    assert tied["text"] == second
    with pytest.raises(TaskError, match="written answers have no mean"):
        engine.ensemble(["a", "b"], "mean")


def test_refused(five):
    engine = fw.Engine(tiny_backbone(), five | {"names": load_artifact(tiny_artifact("ner"))})
    with pytest.raises(TaskError, match="v0 has type 'classification', names has 'ner'"):
        engine.ensemble(["v0", "names"])
    with pytest.raises(TaskError, match="at least one member"):
        engine.ensemble([])
    with pytest.raises(UnknownReference):
        engine.ensemble(["v0", "v9"])


def test_an_ensemble_is_known_by_its_members(five):
    engine = fw.Engine(tiny_backbone(), five)
    one, other = engine.ensemble(["v0", "v1"]), engine.ensemble(["v0", "v1"], "majority")
    assert (one.task, one.version, len(one.digest)) == ("v0+v1", None, 64)
    assert one == engine.ensemble(["v0", "v1"])
    assert one.digest != other.digest
