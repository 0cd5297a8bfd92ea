"""What spoils one input of a batch spoils no other."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

import foreword as fw
from canaries import canary, same
from foreword.artifacts.format import load_artifact
from foreword.errors import EngineError
from tiny import tiny_backbone
from tiny_artifacts import records, tiny_artifact

ITEMS = records("classification", labelled=False)


@pytest.fixture
def engine():
    base = load_artifact(tiny_artifact())
    artifacts = {f"task-{n}": canary(base, n) for n in range(5)}
    artifacts["nan"] = replace(base, head={name: tensor * torch.nan for name, tensor in base.head.items()})
    return fw.Engine(tiny_backbone(), artifacts)


def jobs_of(engine: fw.Engine, names: list[str]) -> list:
    return [engine.encode(engine.resolve(name), ITEMS[n % 4]) for n, name in enumerate(names)]


NAMES = [f"task-{n % 5}" for n in range(9)]


def test_numbers_that_are_not_finite(engine):
    good = engine.run(jobs_of(engine, NAMES))
    mixed = engine.run(jobs_of(engine, [*NAMES, "nan"]))
    assert isinstance(mixed[-1], EngineError)
    assert "not finite" in str(mixed[-1])
    assert all(same(one, other) for one, other in zip(good, mixed, strict=False))


def test_an_answer_that_cannot_be_made(engine):
    jobs = jobs_of(engine, NAMES)
    good = engine.run(jobs)
    jobs[4] = replace(jobs[4], parts=(replace(jobs[4].parts[0], example=None),))
    answers = engine.run(jobs)
    assert isinstance(answers[4], EngineError)
    assert str(answers[4]).startswith("task-4: no answer could be made of this input")
    assert all(same(answers[i], good[i]) for i in range(9) if i != 4)


def test_a_pass_that_fails_is_tried_again_in_halves(engine):
    jobs = jobs_of(engine, NAMES)
    good = engine.run(jobs)
    sizes = []

    def refuse(_, args):
        sizes.append(len(args[0]))
        if len(args[0]) > 3:
            raise RuntimeError("too many")

    engine.backbone.register_forward_pre_hook(refuse)
    for _ in range(2):  # nothing is learned of it: the next may fail for another reason, or not at all
        sizes.clear()
        answers = engine.run(jobs)
        assert sizes[:2] == [9, 4]
        assert all(same(one, other) for one, other in zip(answers, good, strict=True))
    assert (engine.stats().out_of_memory, engine.stats().most_read) == (0, None)


def test_a_row_that_cannot_be_run(engine):
    jobs = jobs_of(engine, NAMES)
    good = engine.run(jobs)
    poison = engine.backbone.vocabulary_size - 1
    row = jobs[6].parts[0].rows[0]
    assert all(poison not in job.parts[0].rows[0].input_ids for job in jobs)
    jobs[6] = replace(
        jobs[6], parts=(replace(jobs[6].parts[0], rows=(replace(row, input_ids=[poison, *row.input_ids[1:]]),)),)
    )

    def fail(_, args):
        if bool((args[0] == poison).any()):
            raise RuntimeError("poison")

    engine.backbone.register_forward_pre_hook(fail)
    answers = engine.run(jobs)
    assert isinstance(answers[6], EngineError)
    assert "poison" not in str(answers[6])  # nothing that may be of the input
    assert all(same(answers[i], good[i]) for i in range(9) if i != 6)
