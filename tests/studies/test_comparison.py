"""The table of a study, against numbers worked out by hand."""

from __future__ import annotations

import json
import statistics
from dataclasses import replace

import pytest

from foreword.artifacts.manifest import MetricsEntry, ParametersEntry
from foreword.studies.cells.cell import CellResult
from foreword.studies.cells.store import Store
from foreword.studies.cells.study_file import load_study
from foreword.studies.comparison.comparison import Comparison, Entry, compare
from foreword.studies.comparison.files import write_files
from foreword.studies.comparison.published import published, published_on
from foreword.studies.comparison.tables import failures, headline, introduction, paper_rows, score_table, summary_rows
from foreword.studies.comparison.text import comparison_text


def result(value: float, metric: str = "accuracy", trained: int = 1000, **changes) -> CellResult:
    return CellResult(
        holdout=MetricsEntry(main=metric, values={metric: 0.99}, counts={}),
        test=MetricsEntry(main=metric, values={metric: value}, counts={}),
        parameters=ParametersEntry(prompt=trained, head=0, backbone_trained=0, backbone=100_000),
        bytes=4 * trained,
        steps=10,
        best_step=5,
        seconds=100 * value,
        seconds_per_step=value,
        wall_seconds=1.0,
        peak_memory=int(1e6 * value),
        threads=1,
        device="cpu",
        curve=(),
        data={},
        notes=(),
        recipe={"backbone": {"name": "tiny"}},
        versions={"python": "3.12"},
        **changes,
    )


def entry(data: str, method: str, *values: float, metric: str = "accuracy", **changes) -> Entry:
    results = tuple(result(value, metric) for value in values)
    return replace(Entry(data, method, ("training.learning_rate=0.1",), results, 3, ()), **changes)


COMPARISON = Comparison(
    name="A study",
    entries=(
        entry("rte", "full", 0.6, 0.7, 0.8),
        entry("rte", "prompt", 0.7, 0.7, 0.73),
        entry("rte", "head", settings=None, errors=("trial 1: RuntimeError: <b>no</b>",)),
        entry("conll04", "full", 0.8, metric="f1"),
        entry("conll04", "prompt", 0.5, 0.7, metric="f1"),
        entry("conll04", "head", 0.2, 0.2, 0.2, metric="f1"),
    ),
    labels={"prompt": "Prompt & co"},
    baseline="full",
    prompt="prompt",
    seeds=(1, 2, 3),
    cells=(15, 18),
)


def test_mean_and_sample_deviation():
    first = COMPARISON.entries[0]
    assert first.mean == pytest.approx(0.7)
    assert first.deviation == pytest.approx(0.1)  # sqrt((0.01 + 0 + 0.01) / 2)
    assert COMPARISON.entries[3].deviation is None
    assert COMPARISON.entries[2].mean is None
    assert (first.seconds, first.seconds_per_step) == (pytest.approx(70), pytest.approx(0.7))
    assert first.peak_memory == 800_000
    assert first.share == 0.01


def test_ratios_are_to_fine_tuning_on_the_same_data():
    ratios = [COMPARISON.ratio(one) for one in COMPARISON.entries]
    assert ratios == [1.0, pytest.approx(0.71 / 0.7), None, 1.0, pytest.approx(0.75), pytest.approx(0.25)]
    full, prompt, head = COMPARISON.summaries()
    assert (full.mean, full.worst[1]) == (1.0, 1.0)
    assert prompt.mean == pytest.approx((0.71 / 0.7 + 0.75) / 2)
    assert prompt.worst == ("conll04", pytest.approx(0.75))
    assert head.ratios == {"conll04": pytest.approx(0.25)}


def test_without_fine_tuning_there_are_no_ratios():
    other = replace(COMPARISON, baseline=None)
    assert [other.ratio(one) for one in other.entries] == [None] * 6
    assert other.summaries() == []
    assert headline(other) == ""
    assert "ratio" not in introduction(other)


def test_the_best_of_a_row():
    assert [COMPARISON.is_best(one) for one in COMPARISON.entries] == [False, True, False, True, False, False]


def test_scores_in_words():
    table = score_table(COMPARISON)
    assert (table.corner, table.columns) == (("Data", "Metric"), ("full", "Prompt & co", "head"))
    rte, conll = table.rows
    assert [cell.words for cell in rte.cells] == ["70.0 ± 10.0", "71.0 ± 1.7", "failed"]
    assert [cell.words for cell in conll.cells] == ["80.0 (n = 1)", "60.0 ± 14.1 (n = 2)", "20.0 ± 0.0"]
    assert [cell.ratio for cell in conll.cells] == ["", "0.750", "0.250"]
    assert (rte.heads, conll.heads) == (("rte", "accuracy"), ("conll04", "F1"))
    assert "15 of 18 cells are finished" in introduction(COMPARISON)
    assert list(summary_rows(COMPARISON))[2] == ("Prompt & co", "2", "0.882", "0.750", "conll04")
    assert headline(COMPARISON) == (
        "Prompt & co reaches 88.2% of fine-tuning's score on average over 2 data sets and 75.0% at worst (conll04), "
        "training 1.0% of the backbone's size."
    )
    assert failures(COMPARISON) == ["rte, head, trial 1: RuntimeError: <b>no</b>"]


def test_many_methods_stand_below_one_another(monkeypatch, tmp_path):
    monkeypatch.setattr("foreword.studies.comparison.comparison.MOST_ACROSS", 2)
    table = score_table(COMPARISON)
    assert (table.corner, table.columns) == (("Method",), ("rte, accuracy", "conll04, F1"))
    assert [(row.heads, [cell.words for cell in row.cells]) for row in table.rows] == [
        (("full",), ["70.0 ± 10.0", "80.0 (n = 1)"]),
        (("Prompt & co",), ["71.0 ± 1.7", "60.0 ± 14.1 (n = 2)"]),
        (("head",), ["failed", "20.0 ± 0.0"]),
    ]
    assert [[cell.best for cell in row.cells] for row in table.rows] == [[False, True], [True, False], [False, False]]
    text, page, _ = write_files(tmp_path, COMPARISON)
    assert "| Prompt & co | **71.0 ± 1.7** (1.014) | 60.0 ± 14.1 (n = 2) (0.750) |" in text.read_text()
    assert 'aria-label="rte: 71.0 ± 1.7, 1.014 of fine-tuning; conll04: 60.0 ± 14.1, 0.750' in page.read_text()


def test_what_papers_report_stands_beside_it():
    rows = list(paper_rows(COMPARISON))
    assert rows[1] == ("rte", "ours", "70.0 ± 10.0", "71.0 ± 1.7", "1.014")
    assert rows[2] == ("rte", "BERT-large", "70.4", "78.3", "1.112")
    assert ("conll04", "RoBERTa-large", "88.8", "88.4", "0.995") in rows


def test_published_scores_are_fractions_and_found_once():
    assert len({(one.source, one.data, one.metric, one.backbone) for one in published()}) == len(published())
    assert all(0 < score <= 1 for one in published() for score in one.scores.values())
    (bert, *_) = published_on("boolq", "accuracy", "fine-tuning", "ptuning-v2")
    assert (bert.backbone, bert.scores["ptuning-v2"]) == ("BERT-large", pytest.approx(0.758))
    assert published_on("boolq", "f1", "fine-tuning") == []


def test_a_study_that_was_run(finished):
    """Every number again, from the files of the cells."""
    path, out, _ = finished
    comparison = compare(load_study(path), Store(out))
    assert (comparison.baseline, comparison.prompt) == ("full", "prompt")
    assert comparison.cells == (16, 16)
    raw = [json.loads(file.read_text()) for file in (out / "cells").iterdir()]
    wanted = [
        one["result"]["test"]["values"]["f1"]
        for one in raw
        if one["tags"]["data"] == "people" and one["tags"]["method"] == "prompt" and "seed" in one["tags"]["cell"]
    ]
    found = comparison.row("people")["prompt"]
    assert len(wanted) == 2
    assert found.mean == pytest.approx(sum(wanted) / 2)
    assert found.deviation == pytest.approx(statistics.stdev(wanted))
    assert found.tested
    assert found.settings in (("training.learning_rate=0.01",), ("training.learning_rate=0.1",))


def test_markdown():
    text = comparison_text(COMPARISON)
    assert "| Data | Metric | full | Prompt & co | head |" in text
    assert "| rte | accuracy | 70.0 ± 10.0 | **71.0 ± 1.7** (1.014) | failed |" in text
    assert "- rte, head, trial 1: RuntimeError: <b>no</b>" in text
    assert "| rte | full | 1,000 | 1.0% | 4.0 kB | 1 min 10 s | 700 ms | 800 kB | learning_rate = 0.1 |" in text


def test_files(tmp_path):
    text, page, figure = write_files(tmp_path, COMPARISON)
    html = page.read_text()
    assert "&lt;b&gt;no&lt;/b&gt;" in html
    assert "Prompt &amp; co" in html
    assert "<script" not in html
    assert figure.read_bytes().startswith(b"\x89PNG")
    before = (html, text.read_text(), figure.read_bytes())
    write_files(tmp_path, COMPARISON)
    assert before == (page.read_text(), text.read_text(), figure.read_bytes())


def test_files_without_fine_tuning_or_with_nothing_finished(tmp_path):
    assert len(write_files(tmp_path, replace(COMPARISON, baseline=None))) == 2
    nothing = tuple(replace(one, results=(), settings=None, errors=()) for one in COMPARISON.entries)
    assert len(write_files(tmp_path, replace(COMPARISON, entries=nothing))) == 2
