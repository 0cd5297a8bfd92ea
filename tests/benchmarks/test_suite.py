"""The benchmark suite in its smoke form: it runs, and says what it should. No time is looked at."""

from __future__ import annotations

import json

import pytest
from transformers import AutoTokenizer

from suite.__main__ import main
from suite.groups import GROUPS
from suite.pretrained import pretrained
from suite.report import PICTURE, RESULT, TABLE
from suite.serving_batch.measure import SETTINGS
from suite.timing import alternated, summary
from suite.training.contenders import CONTENDERS, FOREWORD, SIDE_BY_SIDE
from suite.training.measure import BATCHES, PRECISIONS, texts
from suite.workers import Worker

MAY_LACK = {"AdapterHub": "is not there"}
"""Part of a contender's name -> what it says where it cannot run."""


def smoke(group, folder):
    main([group, "--smoke", "--threads", "1", "--out", str(folder)])
    written = {path.name for path in (folder / group).iterdir()}
    assert written == {RESULT, TABLE, PICTURE}
    return json.loads((folder / group / RESULT).read_text())


def check(result, group):
    assert result["group"] == group
    assert result["smoke"] is True
    assert {"commit", "changed", "date", "versions", "machine"} <= result["run"].keys()
    assert {"processor", "cores", "threads", "memory_gib", "gpu"} <= result["run"]["machine"].keys()
    assert result["run"]["machine"]["threads"] == 1
    for contenders in result["settings"].values():
        for name, found in contenders.items():
            if "unavailable" in found:
                (expected,) = [reason for part, reason in MAY_LACK.items() if part in name]
                assert expected in found["unavailable"]
            else:
                assert found["min"] <= found["median"] <= found["max"]
                assert len(found["samples"]) == 1
                assert found["unit"] in ("s", "MiB", "modules")


@pytest.mark.parametrize("group", ["training", "memory"])
def test_every_way_to_train_runs_or_says_why_not(group, tmp_path):
    result = smoke(group, tmp_path)
    check(result, group)
    (contenders,) = result["settings"].values()
    assert list(contenders) == list(CONTENDERS)


def test_small_runs_at_once_and_one_after_another(tmp_path):
    result = smoke("side-by-side", tmp_path)
    check(result, "side-by-side")
    (contenders,) = result["settings"].values()
    assert list(contenders) == list(SIDE_BY_SIDE)


def test_mixed_batches(tmp_path):
    result = smoke("serving-batch", tmp_path)
    check(result, "serving-batch")
    (contenders,) = result["settings"].values()
    assert {"bare model", "Foreword, one pass", "PEFT, set_adapter per task", "AdapterHub, BatchSplit"} <= (
        contenders.keys()
    )


def test_start_up(tmp_path):
    result = smoke("startup", tmp_path)
    check(result, "startup")
    assert result["settings"].keys() == {"seconds", "imports"}
    assert result["settings"]["imports"]["foreword --help"]["samples"] == [0]


def test_tables_are_made_anew_from_results(tmp_path, capsys):
    result = {
        "group": "training",
        "what": "Made up.",
        "run": {
            "commit": "0123456789abcdef",
            "changed": False,
            "date": "2026-01-01",
            "versions": {"torch": "2"},
            "machine": {"processor": "none", "threads": 1, "cores": 2, "memory_gib": 3, "gpu": None},
        },
        "settings": {
            "32x64 float32": {
                "Foreword p=20": summary([0.4, 0.5, 1.1], "s"),
                "PEFT prefix p=20": summary([0.8, 1.0, 2.4], "s"),
                "fine-tuning, no dropout": {"unavailable": "not today"},
            }
        },
    }
    (tmp_path / "training").mkdir()
    (tmp_path / "training" / RESULT).write_text(json.dumps(result))
    main(["--render", "--out", str(tmp_path)])
    assert capsys.readouterr().out.split() == [str(tmp_path / "training" / TABLE)]
    lines = (tmp_path / "training" / TABLE).read_text().splitlines()
    assert "| Foreword p=20 over PEFT prefix p=20 | 32x64 float32 | at least 1.2 | 2.00 | yes |" in lines
    assert "| Foreword p=20 over fine-tuning, no dropout | 32x64 float32 | at least 1.4 | - | not measured |" in lines
    assert "| fine-tuning, no dropout | not today | | | |" in lines
    assert "| Foreword p=20 | 500 ms | 400 ms | 1,100 ms | 3 |" in lines
    assert (tmp_path / "training" / PICTURE).read_bytes().startswith(b"\x89PNG")


def test_targets_name_what_is_measured():
    settings = {f"{rows}x{longest} {precision}" for rows, longest in BATCHES for precision in PRECISIONS}
    known = {
        "training": (set(CONTENDERS), settings),
        "memory": (set(CONTENDERS), settings),
        "side-by-side": (set(), set()),
        "serving-batch": ({"bare model", "Foreword, layers and prompts"}, set(map(str, SETTINGS))),
        "startup": (
            {"foreword --help", "Foreword, predict one line", "transformers, one forward"},
            {"seconds", "imports"},
        ),
        "trials": (set(), set()),
    }
    assert known.keys() == GROUPS.keys()
    for name, group in GROUPS.items():
        contenders, settings = known[name]
        for target in group.targets:
            assert {target.ours, target.theirs} - {None} <= contenders
            assert target.setting in settings


def test_texts_have_the_lengths_they_should():
    with pretrained(tiny=True) as model:
        rows = AutoTokenizer.from_pretrained(model.folder)(texts(200, 64))["input_ids"]
    lengths = [len(row) for row in rows]
    assert max(lengths) == lengths[0] == 64
    assert 32 <= min(lengths) < 36
    assert 46 < sum(lengths) / 200 < 50


def test_contenders_take_turns():
    order = []
    times = alternated({name: lambda name=name: order.append(name) for name in "abc"}, rounds=3, warm_ups=2)
    assert "".join(order) == "abcabcabcbcacab"
    assert {name: len(samples) for name, samples in times.items()} == dict.fromkeys("abc", 3)


def test_an_unknown_group_is_told_of(capsys):
    with pytest.raises(SystemExit) as ended:
        main(["trainning"])
    assert ended.value.code == 2
    assert "no group is called trainning" in capsys.readouterr().err


class TestWorkers:
    def job(self, model, **options):
        return {
            **model._asdict(),
            "run": FOREWORD,
            "texts": texts(2, 8),
            "precision": "float32",
            "threads": 1,
            "device": "cpu",
            "options": {"method": {"prompt_length": 3}, "training": {}, **options},
        }

    def test_a_process_steps_and_reports(self):
        with pretrained(tiny=True) as model:
            worker = Worker(self.job(model))
            worker.wait()
            for _ in range(2):
                worker.step()
            worker.close()
        assert worker.reason is None
        assert worker.report["peak"] > 0
        assert "torch" in worker.report["versions"]

    def test_a_mistake_of_a_library_is_its_result(self):
        with pretrained(tiny=True) as model:
            worker = Worker(self.job(model, method={"prompt_length": 0}), inside=True)
            worker.wait()
            worker.close()
        assert "ValidationError" in worker.reason

    def test_a_process_that_dies_leaves_its_last_words(self):
        worker = Worker({"run": FOREWORD, "threads": 1})  # it wants to know the device
        worker.wait()
        worker.close()
        assert worker.reason == "its process ended: KeyError: 'device'"
