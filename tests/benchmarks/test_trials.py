"""What is tried to be faster computes the same, or nearly; and says why where it cannot run. No time is looked at."""

from __future__ import annotations

import json

import torch

from suite.__main__ import main
from suite.report import RESULT, TABLE
from suite.trials.measure import difference, settings

NEARLY = ("bf16", "int8")


def test_every_trial_computes_what_foreword_does(tmp_path):
    torch.manual_seed(0)  # of the model's weights
    main(["trials", "--smoke", "--threads", "1", "--out", str(tmp_path)])
    found = json.loads((tmp_path / "trials" / RESULT).read_text())["settings"]
    expected = {setting.name: list(setting.trials) for setting in settings(tiny=True)}
    assert {name: set(contenders) for name, contenders in found.items()} == {
        name: set(trials) for name, trials in expected.items()
    }
    for name, contenders in found.items():
        assert contenders[expected[name][0]]["figures"]["of the first"] == 1
        for trial, result in contenders.items():
            if "unavailable" in result:
                assert "ONNX" in trial
                assert "No module named" in result["unavailable"]
            else:
                most = 0.2 if any(word in trial for word in NEARLY) else 1e-4
                assert result["figures"]["difference"] < most, trial
    table = (tmp_path / "trials" / TABLE).read_text()
    assert "| contender | median | min | max | samples | of the first | difference | ready |" in table


def test_differences_are_relative_to_the_largest_number():
    expected = [torch.tensor([[1.0, -4.0]]), torch.tensor([[2.0, 0.0]])]
    found = [torch.tensor([[1.0, -3.0]]), torch.tensor([[2.0, -2.0]])]
    assert difference(found, expected) == 0.5
    assert difference(expected, expected) == 0
