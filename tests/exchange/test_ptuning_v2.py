"""Checkpoints of P-Tuning v2's own code, put together by hand, against plain models that are handed a cache."""

from __future__ import annotations

import pickle
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from transformers import AutoModel, DynamicCache

import foreword as fw
from foreign import backbone_with_pooler, batch_for, our_logits, same
from foreword.artifacts.format import load_artifact, load_unfolded
from foreword.backbones import Backbone
from foreword.errors import ArtifactError
from foreword.exchange import import_prompt
from tiny import tiny_backbone

P, L, H, E, D = 3, 3, 4, 8, 32
LABELS = ("no", "yes", "maybe")
_BACKBONES: dict[str, Backbone] = {}


@pytest.fixture
def backbone(family: str, tmp_path_factory: pytest.TempPathFactory) -> Backbone:
    if family not in _BACKBONES:
        _BACKBONES[family] = backbone_with_pooler(family, tmp_path_factory.mktemp("models") / family)
    return _BACKBONES[family]


@pytest.fixture
def family() -> str:
    return "bert"


def checkpoint(backbone: Backbone, **more: torch.Tensor) -> dict[str, torch.Tensor]:
    """A whole model's state dict, as that code's version of transformers wrote it, with a random prefix."""
    torch.manual_seed(5)
    trunk = {"bert": "bert", "roberta": "roberta", "xlm-roberta": "roberta"}[backbone.family]
    model = AutoModel.from_pretrained(backbone.name)
    state = {f"{trunk}.{name}": tensor for name, tensor in model.state_dict().items()}
    state[f"{trunk}.embeddings.position_ids"] = torch.arange(128)[None]
    return state | {"prefix_encoder.embedding.weight": torch.randn(P, 2 * L * D)} | more


def classifier(outputs: int, name: str = "classifier") -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(9)
    shapes = {"weight": (outputs, D), "bias": (outputs,)}
    return {f"{name}.{part}": torch.randn(shape, generator=generator) for part, shape in shapes.items()}


def matrix_by_hand(state: dict[str, torch.Tensor]) -> torch.Tensor:
    """With the MLP, where there is one, number by number."""
    embedding = state["prefix_encoder.embedding.weight"].double()
    if "prefix_encoder.trans.0.weight" not in state:
        return embedding.float()
    w0, b0, w2, b2 = (
        state[f"prefix_encoder.trans.{layer}.{part}"].double() for layer in (0, 2) for part in ("weight", "bias")
    )
    return ((embedding @ w0.T + b0).tanh() @ w2.T + b2).float()


@torch.no_grad()
def states_by_hand(backbone: Backbone, matrix: torch.Tensor, batch: dict[str, torch.Tensor]) -> torch.Tensor:
    """The plain model over a cache that is filled by the layout's formula, its positions counted from P on."""
    rows, length = batch["input_ids"].shape
    past = torch.empty(L, 2, H, P, E)
    for layer in range(L):
        for kv in range(2):
            for head in range(H):
                for p in range(P):
                    for d in range(E):
                        past[layer, kv, head, p, d] = matrix[p, ((2 * layer + kv) * H + head) * E + d]
    cache = DynamicCache([tuple(pair[None].expand(rows, -1, -1, -1) for pair in layer) for layer in past])
    first = P + (0 if backbone.family == "bert" else 2)
    model = AutoModel.from_pretrained(backbone.name, attn_implementation="eager").eval()
    mask = torch.cat([torch.ones(rows, P, dtype=torch.long), batch["attention_mask"]], dim=1)
    positions = torch.arange(first, first + length).expand(rows, -1)
    inputs = {**batch, "attention_mask": mask, "position_ids": positions, "past_key_values": cache}
    return model(**inputs).last_hidden_state


@pytest.mark.parametrize("family", ["bert", "roberta", "xlm-roberta"])
class TestItAnswersAsThatCodeDid:
    def test_texts_behind_the_frozen_pooler(self, family, backbone, tmp_path):
        state = checkpoint(backbone, **classifier(3))
        torch.save(state, tmp_path / "pytorch_model.bin")
        import_prompt("ptuning-v2", tmp_path, backbone, fw.Classification(), tmp_path / "ours", outputs=LABELS)
        batch = batch_for(backbone)
        trunk = "bert" if family == "bert" else "roberta"
        hidden = states_by_hand(backbone, matrix_by_hand(state), batch)[:, 0]
        pooled = (hidden @ state[f"{trunk}.pooler.dense.weight"].T + state[f"{trunk}.pooler.dense.bias"]).tanh()
        wanted = pooled @ state["classifier.weight"].T + state["classifier.bias"]
        same(our_logits(tmp_path / "ours", backbone, batch), wanted, batch)

    def test_tokens_with_an_mlp(self, family, backbone, tmp_path):
        torch.manual_seed(6)
        h = 7
        mlp = {
            "prefix_encoder.embedding.weight": torch.randn(P, D),
            "prefix_encoder.trans.0.weight": torch.randn(h, D) * 0.2,
            "prefix_encoder.trans.0.bias": torch.randn(h),
            "prefix_encoder.trans.2.weight": torch.randn(2 * L * D, h) * 0.5,
            "prefix_encoder.trans.2.bias": torch.randn(2 * L * D),
        }
        state = checkpoint(backbone, **mlp, **classifier(3))
        torch.save(state, tmp_path / "any-name.bin")
        tags = ("O", "B-PER", "I-PER")
        import_prompt("ptuning-v2", tmp_path / "any-name.bin", backbone, fw.NER(), tmp_path / "ours", outputs=tags)
        batch = batch_for(backbone)
        hidden = states_by_hand(backbone, matrix_by_hand(state), batch)
        wanted = hidden @ state["classifier.weight"].T + state["classifier.bias"]
        same(our_logits(tmp_path / "ours", backbone, batch), wanted, batch)
        unfolded = load_unfolded(load_artifact(tmp_path / "ours"))
        kept = {tuple(tensor.shape): tensor for tensor in unfolded.values()}
        for tensor in mlp.values():
            assert torch.equal(kept[tuple(tensor.shape)], tensor), "training could not go on from it"


def test_questions(backbone, tmp_path):
    state = checkpoint(backbone, **classifier(2, "qa_outputs"))
    save_file({name: tensor.contiguous() for name, tensor in state.items()}, tmp_path / "model.safetensors")
    import_prompt("ptuning-v2", tmp_path, backbone, fw.QA(), tmp_path / "ours")
    batch = batch_for(backbone)
    hidden = states_by_hand(backbone, matrix_by_hand(state), batch)
    wanted = hidden @ state["qa_outputs.weight"].T + state["qa_outputs.bias"]
    same(our_logits(tmp_path / "ours", backbone, batch), wanted, batch)
    assert load_artifact(tmp_path / "ours").task.layers == "last"


def test_a_checkpoint_without_its_frozen_part_takes_the_backbones_pooler(backbone, tmp_path):
    state = checkpoint(backbone, **classifier(3))
    torch.save({name: t for name, t in state.items() if not name.startswith("bert.")}, tmp_path / "pytorch_model.bin")
    import_prompt("ptuning-v2", tmp_path, backbone, fw.Classification(), tmp_path / "ours", outputs=LABELS)
    head = load_artifact(tmp_path / "ours").head
    assert torch.equal(head["layers.1.weight"], state["bert.pooler.dense.weight"])


class _Evil:
    def __reduce__(self):
        return Path.touch, (Path("/tmp/foreword-was-here"),)


class TestRefused:
    @pytest.mark.parametrize(
        ("change", "says"),
        [
            ({"prefix_encoder.embedding.weight": torch.zeros(P, 2 * L * D + 2)}, "another backbone"),
            ({"prefix_encoder.embedding.weight": torch.zeros(P * 2 * L * D)}, "another backbone"),
            ({"prefix_encoder.embedding.weight": torch.full((P, 2 * L * D), float("nan"))}, "not finite"),
            ({"prefix_encoder.embedding.weight": torch.full((P, 2 * L * D), 1e300, dtype=torch.double)}, "not finite"),
            ({"prefix_encoder.embedding.weight": torch.ones((P, 2 * L * D), dtype=torch.long)}, "int64"),
            ({"prefix_encoder.weight": torch.zeros(P, D)}, "shallow prompt"),
            ({"bert.embeddings.word_embeddings.weight": torch.zeros(10, D)}, "frozen weights are not those"),
            ({"bert.encoder.layer.1.output.dense.bias": torch.zeros(D)}, "frozen weights are not those"),
            ({"classifier.weight": torch.zeros(3, D + 1)}, "classifier.weight"),
            ({"classifier.bias": torch.zeros(4)}, "classifier.bias"),
            ({"optimizer": {"lr": 1}}, "expected tensors by name"),
        ],
    )
    def test_what_does_not_fit(self, change, says, backbone, tmp_path):
        torch.save({**checkpoint(backbone, **classifier(3)), **change}, tmp_path / "pytorch_model.bin")
        with pytest.raises(ArtifactError, match=says):
            import_prompt("ptuning-v2", tmp_path, backbone, fw.Classification(), tmp_path / "ours", outputs=LABELS)
        assert not (tmp_path / "ours").exists()

    def test_a_checkpoint_of_another_kind(self, backbone, tmp_path):
        torch.save({"x": torch.zeros(1)}, tmp_path / "pytorch_model.bin")
        with pytest.raises(ArtifactError, match=r"no 'prefix_encoder\.embedding\.weight'"):
            import_prompt("ptuning-v2", tmp_path, backbone, fw.Classification(), tmp_path / "ours")

    @pytest.mark.parametrize(
        "content",
        [b"", b"not a pickle", pickle.dumps(_Evil(), protocol=2), pickle.dumps([1, 2], protocol=2)],
        ids=["empty", "text", "code", "list"],
    )
    def test_a_pickle_that_is_no_table_of_tensors(self, content, backbone, tmp_path):
        (tmp_path / "pytorch_model.bin").write_bytes(content)
        with pytest.raises(ArtifactError, match=r"plain tensors|expected a table"):
            import_prompt("ptuning-v2", tmp_path, backbone, fw.Classification(), tmp_path / "ours")
        assert not Path("/tmp/foreword-was-here").exists()

    def test_a_pickle_is_never_loaded_as_an_artifact(self, backbone, tmp_path):
        torch.save(checkpoint(backbone), tmp_path / "pytorch_model.bin")
        for path in (tmp_path, tmp_path / "pytorch_model.bin"):
            with pytest.raises(ArtifactError, match="not an artifact"):
                fw.load(path)

    def test_another_family(self, tmp_path):
        torch.save({}, tmp_path / "pytorch_model.bin")
        with pytest.raises(ArtifactError, match="not for 'gpt2'"):
            import_prompt("ptuning-v2", tmp_path, tiny_backbone("gpt2"), fw.Classification(), tmp_path / "ours")

    def test_no_head_for_the_task(self, backbone, tmp_path):
        torch.save(checkpoint(backbone, **classifier(2, "qa_outputs")), tmp_path / "pytorch_model.bin")
        with pytest.raises(ArtifactError, match="every token"):
            import_prompt("ptuning-v2", tmp_path, backbone, fw.Classification(), tmp_path / "ours", outputs=("a", "b"))
        torch.save(checkpoint(backbone), tmp_path / "pytorch_model.bin")
        with pytest.raises(ArtifactError, match="--prompt-only"):
            import_prompt("ptuning-v2", tmp_path, backbone, fw.Classification(), tmp_path / "ours", outputs=("a", "b"))
