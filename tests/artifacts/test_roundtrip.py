"""What is loaded is what was saved: the same logits, to the bit, also in another process."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

import foreword as fw
from foreword.artifacts.format import load_artifact, load_unfolded, save_artifact
from foreword.artifacts.tensors import read_tensor_file
from foreword.data.records import Record
from foreword.errors import ArtifactError
from foreword.inference.encoding import encode_examples
from foreword.inference.forward import row_logits
from foreword.methods import METHODS as TABLE
from foreword.methods import fold
from foreword.tasks import TASKS as TASK_TABLE
from foreword.tasks import WritingTask
from tiny import tiny_backbone
from tiny_artifacts import (
    METHODS,
    PAIRS,
    TASKS,
    answers_of,
    backbone_for,
    change_manifest,
    records,
    tiny_artifact,
    train_tiny,
)

ROOT = Path(__file__).parents[2]
FILES = {"artifact.json", "README.md", "prompt.safetensors"}
MORE = {
    "ptuning-v2": {"unfolded.safetensors"},
    "ptuning-v2-mlp": {"unfolded.safetensors"},
    "ptuning-v2-some-layers": {"unfolded.safetensors"},
    "ptuning-v2-gate": {"unfolded.safetensors"},
    "prefix-tuning": {"unfolded.safetensors"},
    "prompt-tuning": {"unfolded.safetensors"},
    "p-tuning": {"unfolded.safetensors"},
    "p-tuning-mlp": {"unfolded.safetensors"},
    "layer-deltas": {"unfolded.safetensors"},
    "warp": {"unfolded.safetensors"},
    "ssf": {"unfolded.safetensors"},
    "modulated": {"unfolded.safetensors"},
    "fine-tuning": {"backbone.safetensors"},
    "bitfit": {"backbone.safetensors"},
    "ln-tuning": {"backbone.safetensors"},
    "lora": set(),
    "ia3": set(),
    "adapter": set(),
    "combined": {"unfolded.safetensors"},
    "mixture": {"unfolded.safetensors"},
    "mixture-of-prefixes": {"unfolded.safetensors"},
    "head-only": set(),
}


def logits_of(run):
    """Of a run still in memory, for the items without their labels."""
    task, model = run.prepared.task, run.model
    items = [Record(item, "tiny", n) for n, item in enumerate(records(task.name, labelled=False))]
    rows = encode_examples(task, task.read(items, labelled=False), model.backbone).rows
    return [logits.flatten().tolist() for logits in row_logits(model, rows)]


def test_every_method_and_task_is_tried():
    assert {method.name for method in METHODS.values()} == set(TABLE)
    writing = {name for name, task in TASK_TABLE.items() if issubclass(task, WritingTask)}
    assert set(TASKS) == set(TASK_TABLE) - writing


@pytest.mark.parametrize(("task", "method"), PAIRS)
def test_the_same_logits_as_before_saving(tmp_path, task, method):
    run = train_tiny(task, method)
    run.model.trunk = None  # what it kept of the lower layers was rounded in batches of its own
    before = logits_of(run)
    run.save(tmp_path / "a")
    assert {p.name for p in (tmp_path / "a").iterdir()} == FILES | MORE[method]
    assert answers_of(fw.load(tmp_path / "a", backbone=backbone_for(task))) == before
    assert fw.load(tmp_path / "a").task == run.outcome.task  # and its backbone is found by its name


PROGRAM = """
import json, sys
import torch
torch.set_num_threads(1)
import foreword as fw
from tiny_artifacts import answers_of
print(json.dumps([answers_of(fw.load(path)) for path in sys.argv[1:]]))
"""


def test_the_same_bits_in_a_fresh_process():
    paths = [tiny_artifact(*pair) for pair in PAIRS]
    here = [answers_of(fw.load(path)) for path in paths]
    environment = {**os.environ, "PYTHONPATH": f"{ROOT / 'src'}:{ROOT / 'tests'}", "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", PROGRAM, *map(str, paths)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    assert json.loads(done.stdout.splitlines()[-1]) == here


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
def test_a_backbone_of_another_type_is_loaded_as_it_was(tmp_path, dtype):
    run = train_tiny("classification", "ptuning-v2", tiny_backbone(dtype=dtype))
    before = logits_of(run)
    run.save(tmp_path / "a")
    found = fw.load(tmp_path / "a")
    assert found.backbone.model.dtype == dtype
    assert answers_of(found) == before


@pytest.mark.parametrize("method", ["ptuning-v2", "ptuning-v2-mlp", "ptuning-v2-some-layers"])
class TestFolding:
    def test_folded_equals_unfolded(self, method):
        run = train_tiny("ner", method)
        run.model.eval()
        unfolded = run.model.prompt()
        folded = fold(run.model.prompt)
        assert list(folded.prefix) == list(unfolded.prefix)
        for site, pair in folded.prefix.items():
            assert torch.equal(pair.key, unfolded.prefix[site].key)
            assert torch.equal(pair.value, unfolded.prefix[site].value)

    def test_unfolded_parameters_go_back_into_a_fresh_encoder(self, method):
        artifact = load_artifact(tiny_artifact("classification", method))
        backbone = tiny_backbone()
        encoder = artifact.method.build(backbone)
        fresh = fold(encoder).prefix
        encoder.load_state_dict(load_unfolded(artifact))
        again = fold(encoder).prefix
        assert set(again) == set(artifact.prompt.prefix)
        for site, pair in artifact.prompt.prefix.items():
            assert torch.equal(again[site].key, pair.key)
            assert torch.equal(again[site].value, pair.value)
            assert not torch.equal(fresh[site].key, pair.key)  # so the comparison says something

    def test_serving_reads_no_unfolded_numbers(self, method):
        folder = tiny_artifact("classification", method)
        served = load_file(folder / "prompt.safetensors")
        assert all(name.startswith(("head/", "prefix/encoder.")) for name in served)
        assert not set(served) & set(load_file(folder / "unfolded.safetensors"))


@pytest.mark.parametrize("method", ["fine-tuning", "head-only"])
def test_methods_without_a_prompt_have_nothing_to_unfold(method):
    artifact = load_artifact(tiny_artifact("classification", method))
    assert artifact.prompt is None
    with pytest.raises(ArtifactError, match="holds no unfolded parameters"):
        load_unfolded(artifact)


def test_what_was_loaded_can_be_saved_again(tmp_path):
    first = fw.load(tiny_artifact("ner", "ptuning-v2-mlp"))
    save_artifact(tmp_path / "again", first.model, first.artifact.manifest)
    assert {p.name for p in (tmp_path / "again").iterdir()} == FILES
    assert answers_of(fw.load(tmp_path / "again")) == answers_of(first)


@pytest.mark.parametrize("task", [fw.SRL(head_width=8, between=False), fw.SRL(mark="appended")], ids=lambda t: t.mark)
def test_an_artifact_from_before_a_setting_is_as_it_was_then(tmp_path, task):
    made = {"train": records("srl"), "dev": records("srl"), "epochs": 1, "learning_rate": 1e-2, "progress": False}
    run = fw.train(tiny_backbone(), METHODS["ptuning-v2"], task, **made)
    run.save(tmp_path / "a")
    change_manifest(tmp_path / "a", lambda raw: raw["task"]["settings"].pop("between"))
    assert fw.load(tmp_path / "a").task == run.outcome.task.model_copy(update={"between": False})
    assert answers_of(fw.load(tmp_path / "a")) == logits_of(run)


def test_loading_draws_no_prompt():
    """Checking the prompt's shape makes none of its numbers, however many the settings ask for."""
    artifact, backbone = load_artifact(tiny_artifact()), tiny_backbone()
    before = torch.get_rng_state()
    artifact.check_backbone(backbone)
    assert torch.equal(torch.get_rng_state(), before)


class TestTheFolder:
    @pytest.mark.parametrize("name", ["prompt.safetensors", "unfolded.safetensors"])
    def test_no_pickle(self, name):
        content = (tiny_artifact() / name).read_bytes()
        header = int.from_bytes(content[:8], "little")
        assert isinstance(json.loads(content[8 : 8 + header]), dict)

    def test_the_folder_of_the_run_is_good_enough(self, tmp_path):
        train_tiny("qa", "head-only").save(tmp_path / "run" / "artifact")
        assert load_artifact(tmp_path / "run").path == tmp_path / "run" / "artifact"
        assert load_artifact(str(tmp_path / "run" / "artifact")).task.name == "qa"

    def test_files_of_others_in_it_are_left_alone(self, tmp_path):
        train_tiny("qa", "head-only").save(tmp_path / "a")
        (tmp_path / "a" / "notes.txt").write_text("mine")
        (tmp_path / "a" / "unfolded.safetensors").write_text("not listed, so never read")
        with pytest.raises(ArtifactError, match="holds no unfolded parameters"):
            load_unfolded(load_artifact(tmp_path / "a"))

    def test_the_manifest_counts_what_was_trained(self):
        manifest = load_artifact(tiny_artifact("classification", "ptuning-v2")).manifest
        hidden, layers, labels, length = 32, 3, 2, 4
        assert manifest.parameters.prompt == length * 2 * layers * hidden
        assert manifest.parameters.head == hidden * hidden + hidden + hidden * labels + labels
        assert manifest.parameters.backbone_trained == 0
        assert manifest.training.steps == 2
        assert manifest.data["train"].examples == 4


def test_tensors_come_in_the_order_of_their_names(tmp_path):
    """The library that reads them gives another order each time, and what is made of a prompt would be another."""
    path = tmp_path / "many.safetensors"
    save_file({f"head/{n:02}": torch.ones(1) for n in reversed(range(40))}, path)
    assert list(read_tensor_file(path)) == [f"head/{n:02}" for n in range(40)]
