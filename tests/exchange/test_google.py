"""Prompts of Google's prompt-tuning: arrays of vectors that stand before a text."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from transformers import T5EncoderModel

import foreword as fw
from foreign import artifact_of, batch_for, our_states, same
from foreword.artifacts.format import load_artifact
from foreword.errors import ArtifactError, OutputError
from foreword.exchange import export_prompt, import_prompt
from foreword.injection import Anchor
from plain import row_of, run_by_hand
from tiny import tiny_backbone

P, W = 6, 32


def array(dtype: str = "float32") -> np.ndarray:
    """As large as the published ones, whose numbers have a standard deviation of some 40."""
    return (np.random.default_rng(2).standard_normal((P, W)) * 40).astype(dtype)


def imported(path, backbone, tmp_path):
    import_prompt("google", path, backbone, fw.Classification(), tmp_path / "ours", prompt_only=True)
    return load_artifact(tmp_path / "ours")


@pytest.mark.parametrize("name", ["sst2.npy", "encoder.prompt.prompt.prompt"])
def test_t5_reads_it_before_the_text(name, tmp_path):
    """The second name is that of a training run's file."""
    backbone, vectors = tiny_backbone("t5", language_model=True), array()
    with (tmp_path / name).open("wb") as file:
        np.save(file, vectors)
    artifact = imported(tmp_path / name, backbone, tmp_path)
    model = T5EncoderModel.from_pretrained(backbone.name, attn_implementation="eager").eval()
    for text in ("Anna visited London.", "Peter was reading about 2 small houses in Germany and it"):
        batch = batch_for(backbone, [text])
        with torch.no_grad():
            embedded = torch.cat([torch.from_numpy(vectors)[None], model.shared(batch["input_ids"])], dim=1)
            theirs = model(inputs_embeds=embedded).last_hidden_state[:, P:]
        same(our_states(artifact.prompt, backbone, batch), theirs, batch)


def test_bert_reads_it_before_the_text(tmp_path):
    backbone, vectors = tiny_backbone("bert"), array()
    np.save(tmp_path / "prompt.npy", vectors)
    artifact = imported(tmp_path / "prompt.npy", backbone, tmp_path)
    row = row_of(backbone, "Anna visited London.")
    theirs = run_by_hand(backbone, row, [(0, vector) for vector in torch.from_numpy(vectors)])
    batch = {name: torch.tensor([ids]) for name, ids in row.items()}
    batch["attention_mask"] = torch.ones_like(batch["input_ids"])
    same(our_states(artifact.prompt, backbone, batch), theirs[None], batch)


def test_there_and_back_every_bit_is_the_same(tmp_path):
    backbone = tiny_backbone("bert")
    np.save(tmp_path / "prompt.npy", array())
    artifact = imported(tmp_path / "prompt.npy", backbone, tmp_path)
    export_prompt("google", artifact, tmp_path / "again.npy")
    assert (tmp_path / "again.npy").read_bytes() == (tmp_path / "prompt.npy").read_bytes()
    assert artifact.prompt.inputs.anchors == (Anchor.FRONT,) * P


def test_a_float64_array_is_rounded_once(tmp_path):
    """Google's own test fixture is one."""
    np.save(tmp_path / "prompt.npy", array("float64"))
    artifact = imported(tmp_path / "prompt.npy", tiny_backbone("bert"), tmp_path)
    assert torch.equal(artifact.prompt.inputs.vectors, torch.from_numpy(array("float64")).float())


class TestRefused:
    @pytest.mark.parametrize(
        ("content", "says"),
        [
            (np.zeros((P, W + 1), dtype=np.float32), "another backbone"),
            (np.zeros((P, W, 1), dtype=np.float32), "another backbone"),
            (np.zeros((0, W), dtype=np.float32), "another backbone"),
            (np.full((P, W), np.nan, dtype=np.float32), "not finite"),
            (np.full((P, W), 1e300), "not finite"),
            (np.zeros((P, W), dtype=np.int64), "int64"),
            (np.array([{"a": 1}], dtype=object), "numpy array"),
        ],
    )
    def test_arrays(self, content, says, tmp_path):
        np.save(tmp_path / "prompt.npy", content, allow_pickle=True)
        with pytest.raises(ArtifactError, match=says):
            imported(tmp_path / "prompt.npy", tiny_backbone("bert"), tmp_path)
        assert not (tmp_path / "ours").exists()

    def test_other_files(self, tmp_path):
        backbone = tiny_backbone("bert")
        (tmp_path / "text.npy").write_text("no array")
        np.savez(tmp_path / "several.npz", a=array(), b=array())
        for path, says in (
            (tmp_path / "text.npy", "numpy array"),
            (tmp_path / "several.npz", "expected one array"),
            (tmp_path / "none.npy", "cannot be read"),
            (tmp_path, "is a folder"),
        ):
            with pytest.raises(ArtifactError, match=says):
                imported(path, backbone, tmp_path)

    def test_what_a_file_of_vectors_cannot_say(self, tmp_path):
        backbone, task = tiny_backbone("bert"), fw.NER(labels=("PER",))
        for number, (method, says) in enumerate(
            (
                (fw.PTuningV2(prompt_length=2), "keys and values"),
                (fw.PromptTuning(prompt_length=2, placement="end"), "elsewhere"),
                (fw.LayerDeltas(prompt_length=2), "layer deltas"),
            )
        ):
            ours = load_artifact(artifact_of(tmp_path / str(number), backbone, method, task))
            with pytest.raises(ArtifactError, match=says):
                export_prompt("google", ours, tmp_path / "out.npy", prompt_only=True)
            assert not (tmp_path / "out.npy").exists()

    def test_a_head_is_not_lost_in_silence(self, tmp_path):
        method, task = fw.PromptTuning(prompt_length=2), fw.NER(labels=("PER",))
        ours = load_artifact(artifact_of(tmp_path / "ours", tiny_backbone("bert"), method, task))
        with pytest.raises(ArtifactError, match="--prompt-only"):
            export_prompt("google", ours, tmp_path / "out.npy")
        export_prompt("google", ours, tmp_path / "out.npy", prompt_only=True)
        np.testing.assert_array_equal(np.load(tmp_path / "out.npy"), ours.prompt.inputs.vectors.numpy())
        with pytest.raises(OutputError, match="exists already"):
            export_prompt("google", ours, tmp_path / "out.npy", prompt_only=True)
