"""Checkpoints of Li & Liang's code, put together by hand."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pytest
import torch
from transformers import AutoModel, DynamicCache

import foreword as fw
from foreign import batch_for, our_states, same
from foreword.artifacts.format import load_artifact, load_unfolded
from foreword.errors import ArtifactError
from foreword.exchange import import_prompt
from foreword.injection import Site
from tiny import tiny_backbone

P, H, E, D, MID = 3, 4, 8, 32, 6
SETS = {
    "gpt2": {"decoder": ("wte", "control_trans")},
    "bart": {
        "encoder": ("wte_enc", "control_trans_enc"),
        "decoder": ("wte", "control_trans"),
        "cross": ("wte2", "control_trans2"),
    },
}


def checkpoint(family: str, layers: int, deep: bool = False) -> dict[str, torch.Tensor]:
    """Random numbers under that code's names."""
    torch.manual_seed(4)
    state = {}
    for embedding, mlp in SETS[family].values():
        widths = [D, MID, *([MID + 1] if deep else []), 2 * layers * D]
        state[f"{embedding}.weight"] = torch.randn(P, D)
        for number in range(len(widths) - 1):
            state[f"{mlp}.{2 * number}.weight"] = torch.randn(widths[number + 1], widths[number]) * 0.4
            state[f"{mlp}.{2 * number}.bias"] = torch.randn(widths[number + 1])
    return state


def matrix_by_hand(state: Mapping[str, torch.Tensor], embedding: str, mlp: str) -> np.ndarray:
    """``(P, 2LD)`` in float64."""
    out, number = state[f"{embedding}.weight"].double().numpy(), 0
    while f"{mlp}.{number}.weight" in state:
        weight, bias = (state[f"{mlp}.{number}.{part}"].double().numpy() for part in ("weight", "bias"))
        out = (np.tanh(out) if number else out) @ weight.T + bias
        number += 2
    return out


def number_at(matrix: np.ndarray, layer: int, kv: int, head: int, position: int, d: int) -> float:
    """The layout: ``[P, 2L, H, E]``."""
    return float(matrix[position, ((2 * layer + kv) * H + head) * E + d])


def imported(family, state, tmp_path, **options):
    backbone = tiny_backbone(family, language_model=family == "bart", **options)
    torch.save(state, tmp_path / "pytorch_model.bin")
    import_prompt("prefix-tuning", tmp_path, backbone, fw.Classification(), tmp_path / "ours", prompt_only=True)
    return backbone, load_artifact(tmp_path / "ours")


@pytest.mark.parametrize("deep", [False, True])
def test_gpt2_answers_as_a_plain_model_with_a_cache(deep, tmp_path):
    state = checkpoint("gpt2", layers=3, deep=deep)
    backbone, artifact = imported("gpt2", state, tmp_path)
    matrix, batch = matrix_by_hand(state, "wte", "control_trans"), batch_for(backbone)
    rows, length = batch["input_ids"].shape
    past = torch.empty(3, 2, H, P, E)
    for index in np.ndindex(*past.shape):
        layer, kv, head, position, d = index
        past[index] = number_at(matrix, layer, kv, head, position, d)
    cache = DynamicCache([tuple(part[None].expand(rows, -1, -1, -1) for part in layer) for layer in past])
    model = AutoModel.from_pretrained(backbone.name, attn_implementation="eager").eval()
    mask = torch.cat([torch.ones(rows, P, dtype=torch.long), batch["attention_mask"]], dim=1)
    positions = torch.arange(P, P + length).expand(rows, -1)
    with torch.no_grad():
        theirs = model(batch["input_ids"], attention_mask=mask, position_ids=positions, past_key_values=cache)
    same(our_states(artifact.prompt, backbone, batch), theirs.last_hidden_state, batch)


@pytest.mark.parametrize("deep", [False, True])
def test_barts_three_prefixes_come_to_their_own_attention(deep, tmp_path):
    """Number by number; that a backbone reads a given prefix rightly is the tests' of backbones."""
    state = checkpoint("bart", layers=2, deep=deep)
    backbone, artifact = imported("bart", state, tmp_path, encoder_layers=2, decoder_layers=2)
    assert artifact.prompt.prefix.keys() == backbone.sites.keys()
    assert not artifact.prompt.shift_positions
    for stack, (embedding, mlp) in SETS["bart"].items():
        matrix = matrix_by_hand(state, embedding, mlp)
        for layer in range(2):
            pair = artifact.prompt.prefix[Site(stack, layer)]
            for kv, part in enumerate((pair.key, pair.value)):
                wanted = torch.tensor(
                    [[[number_at(matrix, layer, kv, h, p, d) for d in range(E)] for p in range(P)] for h in range(H)]
                )
                torch.testing.assert_close(part, wanted, rtol=1e-5, atol=1e-5)


def test_the_mlp_is_kept_to_go_on_training_from(tmp_path):
    state = checkpoint("gpt2", layers=3)
    _, artifact = imported("gpt2", state, tmp_path)
    kept = load_unfolded(artifact)
    for name, tensor in state.items():
        assert any(torch.equal(tensor, one) for one in kept.values() if one.shape == tensor.shape), name
    assert artifact.method.mlp_hidden == MID


class TestRefused:
    @pytest.mark.parametrize(
        ("change", "says"),
        [
            ({"wte.weight": torch.zeros(P, D + 1)}, "wte.weight"),
            ({"control_trans.0.weight": torch.zeros(MID, D + 1)}, "control_trans.0.weight"),
            ({"control_trans.2.weight": torch.zeros(2 * 4 * D, MID)}, "another backbone|control_trans"),
            ({"control_trans.2.bias": torch.full((2 * 3 * D,), float("inf"))}, "not finite"),
            ({"wte2.weight": torch.zeros(P, D)}, "'wte2.weight' is no part"),
            ({"transformer.h.0.ln_1.weight": torch.zeros(D)}, "is no part"),
        ],
    )
    def test_what_does_not_fit(self, change, says, tmp_path):
        with pytest.raises(ArtifactError, match=says):
            imported("gpt2", checkpoint("gpt2", layers=3) | change, tmp_path)
        assert not (tmp_path / "ours").exists()

    def test_a_prefix_without_an_mlp(self, tmp_path):
        with pytest.raises(ArtifactError, match=r"'wte\.weight' is missing"):
            imported("gpt2", {"control_trans": torch.zeros(6, 1, H, P, E)}, tmp_path)

    def test_sets_of_different_lengths(self, tmp_path):
        state = checkpoint("bart", layers=2) | {"wte2.weight": torch.zeros(P + 1, D)}
        with pytest.raises(ArtifactError, match="different lengths"):
            imported("bart", state, tmp_path, encoder_layers=2, decoder_layers=2)

    def test_a_bart_without_its_decoder(self, tmp_path):
        torch.save(checkpoint("bart", layers=2), tmp_path / "pytorch_model.bin")
        backbone = tiny_backbone("bart", encoder_layers=2, decoder_layers=2)
        with pytest.raises(ArtifactError, match="--language-model"):
            import_prompt("prefix-tuning", tmp_path, backbone, fw.Classification(), tmp_path / "x", prompt_only=True)

    def test_another_family(self, tmp_path):
        torch.save({}, tmp_path / "pytorch_model.bin")
        with pytest.raises(ArtifactError, match="not for 'bert'"):
            import_prompt("prefix-tuning", tmp_path, tiny_backbone("bert"), fw.Classification(), tmp_path / "x")

    def test_a_task_with_a_head_of_its_own(self, tmp_path):
        torch.save(checkpoint("gpt2", layers=3), tmp_path / "pytorch_model.bin")
        with pytest.raises(ArtifactError, match="--prompt-only"):
            import_prompt("prefix-tuning", tmp_path, tiny_backbone("gpt2"), fw.QA(), tmp_path / "x")
