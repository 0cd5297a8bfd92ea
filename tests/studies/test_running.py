"""The engine of a study: every cell once, whatever becomes of the others."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from foreword.errors import ForewordError
from foreword.methods import METHODS
from foreword.recipes import load_recipe, run_recipe
from foreword.studies.cells import running
from foreword.studies.cells.cell import Cell
from foreword.studies.cells.running import run_study
from foreword.studies.cells.store import Store, Taken
from foreword.studies.cells.study import Study
from foreword.studies.cells.study_file import load_study
from foreword.tasks import TASKS
from foreword.training.loop import Interrupted


def run(study: Study, folder: Path, **options) -> list[str]:
    """Names of the cells that were run, in order."""
    ran: list[str] = []
    run_study(study, folder, report=lambda cell, record: ran.append(cell.name), **options)
    return ran


def over(folder: Path) -> dict:
    return {key: record.result for key, record in Store(folder).records().items()}


@contextmanager
def stopped(monkeypatch) -> Iterator[None]:
    """Ctrl-C when a run is at step 5, which trials never are."""
    event, stops = running.Meter.event, ["once"]

    def stop(self, kind, step, values):
        event(self, kind, step, values)
        if (kind, step) == ("step", 5) and stops:
            stops.pop()
            signal.raise_signal(signal.SIGINT)

    with monkeypatch.context() as patch:
        patch.setattr(running.Meter, "event", stop)
        with pytest.raises(Interrupted):
            yield


@pytest.fixture
def copied(finished, tmp_path) -> Path:
    """The file of a study that is finished, beside its results in 'out'; to be changed."""
    shutil.copytree(finished[0].parent, tmp_path, dirs_exist_ok=True)
    return tmp_path / "study.toml"


def test_nothing_is_run_before_what_it_starts_from_is_there(copied, tmp_path):
    """A cell is known by the bytes of its start."""
    study = load_study(copied)
    late = [replace(one, overrides=(*one.overrides, 'training.start_from="runs/late"')) for one in study.entrants]
    with pytest.raises(ForewordError, match=r"places\.full\.trial-1: .*/runs/late: there is none yet"):
        run(replace(study, entrants=tuple(late)), tmp_path / "new")
    assert not (tmp_path / "new").exists()


class TestAWholeStudy:
    def test_in_an_order_that_half_of_it_is_of_use(self, finished):
        path, out, ran = finished
        study = load_study(path)
        # Trials of fine-tuning have no changes of their own, so the better one is the run of seed 11 as well.
        assert ran == [
            *("places.full.trial-1", "places.full.trial-2"),
            *("places.prompt.trial-1", "places.prompt.trial-2", "places.prompt.seed-11"),
            *("people.full.trial-1", "people.full.trial-2"),
            *("people.prompt.trial-1", "people.prompt.trial-2", "people.prompt.seed-11"),
            *("places.full.seed-12", "places.prompt.seed-12", "people.full.seed-12", "people.prompt.seed-12"),
        ]
        assert len(study.cells(over(out))) == study.size == len(ran) + 2
        assert not list((out / "runs").iterdir()), "nothing is kept of a cell but its record"
        assert run(study, out) == []

    def test_the_better_trial_is_run_on_and_test_data_have_no_say(self, finished):
        path, out, _ = finished
        study, results = load_study(path).only(data=["places"], methods=["prompt"]), over(out)
        (entrant,) = study.entrants
        first, second = (results[cell.key] for cell in entrant.trials())
        assert first.test is None
        assert second.test is None
        better = int(second.holdout.values["accuracy"] > first.holdout.values["accuracy"])
        assert entrant.chosen(results) == entrant.search[better]
        final = results[entrant.run(results, 11).key]
        assert final.recipe["training"]["learning_rate"] == (1e-2, 1e-1)[better]
        assert (final.recipe["training"]["epochs"], final.steps) == (2, 6)
        assert [final.data[side].examples for side in ("train", "dev", "test")] == [6, 2, 4]
        assert final.value == final.test.values["accuracy"]

    def test_a_cell_is_what_its_command_makes_alone(self, finished, tmp_path):
        """After others on a backbone that is kept, too."""
        path, out, _ = finished
        results = over(out)
        cell = next(one for one in load_study(path).cells(results) if one.name == "places.prompt.seed-12")
        alone = run_recipe(load_recipe(cell.recipe, cell.overrides), tmp_path / "alone").manifest()
        result = results[cell.key]
        assert [e.train_loss for e in result.curve] == [e["train_loss"] for e in alone.training.evaluations]
        assert (result.holdout, result.test) == (alone.metrics, alone.test)
        assert result.parameters == alone.parameters
        assert result.bytes == (tmp_path / "alone" / "artifact" / "prompt.safetensors").stat().st_size
        program, command, recipe, *changes = shlex.split(cell.command)
        assert (program, command, recipe) == ("foreword", "train", cell.recipe)
        assert tuple(changes[1::2]) == cell.overrides
        assert set(changes[::2]) == {"--set"}

    def test_artifacts_can_be_kept(self, study_file, tmp_path):
        study = load_study(study_file).only(data=["places"], methods=["prompt"], seeds=[11])
        run(study, tmp_path / "out", keep=True)
        key = study.cells(over(tmp_path / "out"))[-1].key
        assert (tmp_path / "out" / "runs" / key / "artifact" / "artifact.json").is_file()


class TestSideBySide:
    def test_every_cell_is_what_it_is_alone(self, finished, study_file, tmp_path):
        """Those of one recipe together, but for methods that train the backbone."""
        alone, study = over(finished[1]), load_study(study_file)
        ran = run(study, tmp_path / "out", side_by_side=3)
        assert sorted(ran) == sorted(finished[2])
        together = over(tmp_path / "out")
        tagged = {(*one.tags.values(),): one.result for one in Store(tmp_path / "out").records().values()}
        assert len(together) == len(alone)
        for key, result in together.items():
            assert result.holdout.values == pytest.approx(alone[key].holdout.values)
            assert [e.train_loss for e in result.curve] == pytest.approx(
                [e.train_loss for e in alone[key].curve], rel=1e-4
            )
        counts = {tags: result.side_by_side for tags, result in tagged.items()}
        assert {count for tags, count in counts.items() if "full" in tags} == {1}
        assert counts["places", "prompt", "trial 1"] == counts["places", "prompt", "trial 2"] == 2
        assert counts["places", "prompt", "seed 11"] == 2

    def test_an_interrupted_company_goes_on_from_its_checkpoints(self, study_file, tmp_path, monkeypatch):
        study = load_study(study_file).only(data=["places"], methods=["prompt"])
        whole = run(study, tmp_path / "whole", side_by_side=2)
        with stopped(monkeypatch):
            run(study, tmp_path / "out", side_by_side=2)
        assert len(list((tmp_path / "out" / "runs").iterdir())) == 2
        ran = run(study, tmp_path / "out", side_by_side=2)
        assert ran == whole[-len(ran) :]
        for key, result in over(tmp_path / "whole").items():
            assert over(tmp_path / "out")[key].holdout == result.holdout

    def test_a_checkpoint_that_does_not_fit_is_begun_anew(self, study_file, tmp_path, monkeypatch):
        study = load_study(study_file).only(data=["places"], methods=["prompt"])
        with stopped(monkeypatch):
            run(study, tmp_path / "out", side_by_side=2)
        first, _ = sorted((tmp_path / "out" / "runs").iterdir())
        (first / "checkpoint.safetensors").write_bytes(b"no checkpoint")
        assert len(run(study, tmp_path / "out", side_by_side=2)) == 2
        assert all(record.result for record in Store(tmp_path / "out").records().values())

    def test_cells_that_fail_do_not_take_others_along(self, study_file, tmp_path):
        study_file.write_text(
            study_file.read_text().replace(
                '"training.learning_rate" = 1e-2 }, { "training.learning_rate" = 1e-1',
                '"method.layers" = "7-9" }, { "training.learning_rate" = 1e-1',
            )
        )
        study = load_study(study_file).only(data=["places"], methods=["prompt"], seeds=[11])
        run(study, tmp_path / "out", side_by_side=2)
        records = {record.tags["cell"]: record for record in Store(tmp_path / "out").records().values()}
        assert records["trial 1"].error.startswith("MethodError")
        assert records["trial 2"].result is not None


class TestAgain:
    def test_a_changed_setting_reruns_its_cells_alone(self, copied, tmp_path):
        text = copied.read_text()
        copied.write_text(text.replace('"method.prompt_length" = 2', '"method.prompt_length" = 3'))
        assert run(load_study(copied).only(data=["places"]), tmp_path / "out") == [
            f"places.prompt.{cell}" for cell in ("trial-1", "trial-2", "seed-11", "seed-12")
        ]
        copied.write_text(text)
        assert run(load_study(copied), tmp_path / "out") == []

    def test_changed_data_reruns_its_cells_alone(self, copied, tmp_path):
        data = copied.with_name("people-dev.jsonl")
        data.write_text(data.read_text().replace("Germany", "Norway"))
        study = load_study(copied).only(methods=["prompt"], seeds=[11])
        assert run(study, tmp_path / "out") == [f"people.prompt.{cell}" for cell in ("trial-1", "trial-2", "seed-11")]

    def test_where_files_lie_and_what_things_are_called_do_not_count(self, study_file, tmp_path):
        before = load_study(study_file).entrants[0].trials()[0]
        moved = tmp_path / "elsewhere"
        moved.mkdir()
        for file in tmp_path.glob("*.*"):
            (moved / file.name).write_bytes(file.read_bytes())
        after = load_study(moved / "study.toml").entrants[0].trials()[0]
        assert before.recipe != after.recipe
        assert before.key == after.key
        assert before.key == Cell(before.recipe, before.overrides, {"other": "name"}).key
        assert before.key != Cell(before.recipe, (*before.overrides, "training.epochs=3")).key
        assert before.key == Cell(before.recipe, (*before.overrides, "training.max_grad_norm=1.0")).key  # the default

    def test_a_default_that_has_changed_counts_as_what_it_was(self, study_file, monkeypatch):
        cell = load_study(study_file).entrants[0].trials()[0]

        def key(*changes: str) -> str:
            return Cell(cell.recipe, (*cell.overrides, "method.type=ptuning-v2", *changes)).key

        assert key() == key("method.init_scale=1.0", "method.dropout=0.0")
        assert key("method.init_scale=0.02") != key() != key("method.dropout=0.1")
        first = key("method.init_scale=0.02", "method.dropout=0.1")
        monkeypatch.setattr(METHODS["ptuning-v2"], "first_defaults", {})
        assert first == key()  # of either, nothing is said

    @pytest.mark.parametrize("kind", [*METHODS.values(), *TASKS.values()], ids=lambda kind: kind.name)
    def test_first_defaults_are_of_settings_that_are_there_and_differ_from_today(self, kind):
        for name, first in kind.first_defaults.items():
            assert kind.model_fields[name].default != first


class TestFailure:
    def test_a_cell_that_fails_does_not_take_others_along_and_is_tried_again(self, study_file, tmp_path, monkeypatch):
        study = load_study(study_file).only(data=["places"], seeds=[11])
        train = running.run_side_by_side

        def fail(jobs, **options):
            (recipe,) = (job.recipe for job in jobs)
            if recipe.method.name == "ptuning-v2" and recipe.training.epochs == 2:
                raise RuntimeError("out of luck")
            return train(jobs, **options)

        with monkeypatch.context() as patch:
            patch.setattr(running, "run_side_by_side", fail)
            assert run(study, tmp_path / "out")[-1] == "places.prompt.seed-11"
        failed = [record for record in Store(tmp_path / "out").records().values() if record.result is None]
        assert [record.error for record in failed] == ["RuntimeError: out of luck"]
        assert run(study, tmp_path / "out") == ["places.prompt.seed-11"]
        assert all(record.result for record in Store(tmp_path / "out").records().values())

    def test_trials_that_fail_are_passed_over(self, study_file, tmp_path):
        study_file.write_text(
            study_file.read_text().replace(
                '"training.learning_rate" = 1e-2 }, { "training.learning_rate" = 1e-1',
                '"method.layers" = "7-9" }, { "training.learning_rate" = 1e-1',
            )
        )
        study = load_study(study_file).only(data=["places"], methods=["prompt"], seeds=[11])
        assert run(study, tmp_path / "out") == [f"places.prompt.{cell}" for cell in ("trial-1", "trial-2", "seed-11")]
        (entrant,) = study.entrants
        assert entrant.chosen(over(tmp_path / "out")) == ("training.learning_rate=0.1",)

    def test_a_search_that_fails_altogether_leaves_nothing_to_run(self, study_file, tmp_path):
        text = study_file.read_text()
        study_file.write_text(text.replace('"method.prompt_length" = 2', '"method.layers" = "7-9"'))
        study = load_study(study_file).only(data=["places"], methods=["prompt"])
        assert run(study, tmp_path / "out") == ["places.prompt.trial-1", "places.prompt.trial-2"]
        assert study.entrants[0].chosen(over(tmp_path / "out")) is None

    def test_a_damaged_record_is_told_of(self, copied, tmp_path):
        study = load_study(copied)
        path = next((tmp_path / "out" / "cells").iterdir())
        path.write_text("{}")
        with pytest.raises(ForewordError, match=f"{path.name}: not the file of a finished cell"):
            run(study, tmp_path / "out")


class TestStops:
    def test_an_interrupted_cell_goes_on_from_its_checkpoint(self, study_file, tmp_path, monkeypatch):
        study = load_study(study_file).only(data=["places"], methods=["prompt"], seeds=[11])
        with stopped(monkeypatch):
            run(study, tmp_path / "out")
        assert len(over(tmp_path / "out")) == 2
        (left,) = (tmp_path / "out" / "runs").iterdir()
        assert (left / "checkpoint.safetensors").is_file()
        assert not list((tmp_path / "out" / "claims").glob("*.json"))
        logged = []
        with monkeypatch.context() as patch:
            patch.setattr(running.Meter, "event", lambda self, kind, step, values: logged.append((kind, step)))
            assert run(study, tmp_path / "out") == ["places.prompt.seed-11"]
        assert logged[:2] == [("start", 5), ("step", 6)]

    def test_a_checkpoint_of_other_data_is_not_gone_on_from(self, study_file, tmp_path, monkeypatch):
        study = load_study(study_file).only(data=["places"], methods=["prompt"], seeds=[11])
        cell = study.cells({})[0]
        folder = Store(tmp_path / "out").run_folder(cell)
        folder.mkdir(parents=True)
        (folder / "run.json").write_text("{}")
        (folder / "checkpoint.safetensors").write_bytes(b"no checkpoint")
        assert run(study, tmp_path / "out")[0] == cell.name
        assert over(tmp_path / "out")[cell.key].steps == 3


class TestClaims:
    def test_a_claim_is_for_one(self, study_file, tmp_path):
        cell = load_study(study_file).cells({})[0]
        with Store(tmp_path / "out").claim(cell) as left:
            assert left is None
            with pytest.raises(Taken), Store(tmp_path / "out").claim(cell):
                pass
        with Store(tmp_path / "out").claim(cell) as left:
            assert left is None

    def test_the_claim_of_a_process_that_died_is_recovered(self, study_file, tmp_path):
        cell, store, began = load_study(study_file).cells({})[0], Store(tmp_path / "out"), time.time()
        process = os.fork()
        if process == 0:
            with store.claim(cell):
                os._exit(9)
        os.waitpid(process, 0)
        with store.claim(cell) as left:
            assert began < left < time.time()

    def test_what_killed_a_process_in_this_call_is_not_run_again_in_it(self, study_file, tmp_path):
        study = load_study(study_file).only(data=["places"], methods=["prompt"], seeds=[11])
        cell, claims = study.cells({})[0], tmp_path / "out" / "claims"
        claims.mkdir(parents=True)
        (claims / f"{cell.key}.json").write_text(json.dumps({"began": time.time() + 60}))
        run(study, tmp_path / "out")
        record = Store(tmp_path / "out").records()[cell.key]
        assert record.error.startswith("the process that ran it died")
        (claims / f"{cell.key}.json").write_text(json.dumps({"began": time.time() - 60}))
        assert run(study, tmp_path / "out")[0] == cell.name
