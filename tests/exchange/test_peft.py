"""HF PEFT: what it trained answers the same here, what was made here the same there, and the rest is refused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

import foreword as fw
from foreign import (
    LENGTH,
    TASKS,
    artifact_of,
    backbone_with_pooler,
    base_model,
    batch_for,
    load_adapter,
    make_adapter,
    our_logits,
    our_states,
    peft_logits,
    same,
)
from foreword.artifacts.format import load_artifact
from foreword.artifacts.tensors import prompt_names
from foreword.backbones import Backbone, load_backbone
from foreword.errors import ArtifactError, OutputError, RecipeError
from foreword.exchange import export_prompt, import_prompt
from foreword.exchange.peft.adapter import WITH_PREFIX, WITH_VECTORS
from tiny import tiny_backbone

_BACKBONES: dict[str, Backbone] = {}
NO_QUESTIONS = {"gemma", "glm"}
SEGMENTS = {"albert", "bert", "deberta", "electra"}
TEXT_HEADS = {"bert", "camembert", "roberta", "xlm-roberta"}
DECODERS = {"gemma", "glm", "gpt2", "llama", "mistral", "qwen3"}
PREFIXED = sorted(WITH_PREFIX - {"mistral"})
WITH_HEAD = [
    (family, task_type)
    for family in PREFIXED
    for task_type, families in (
        ("SEQ_CLS", TEXT_HEADS | DECODERS),
        ("TOKEN_CLS", WITH_PREFIX),
        ("QUESTION_ANS", WITH_PREFIX - SEGMENTS - NO_QUESTIONS),
    )
    if family in families
]
"""All prefixes with a head that both sides have."""
TOKENS = sorted(WITH_VECTORS - {"bart", "modernbert", "t5"})
CONVERTIBLE = sorted(set(TOKENS) - {"distilbert"})  # PEFT itself makes no adapter for DistilBERT, but loads one


@pytest.fixture
def backbone(family: str, tmp_path_factory: pytest.TempPathFactory) -> Backbone:
    if family not in _BACKBONES:
        _BACKBONES[family] = backbone_with_pooler(family, tmp_path_factory.mktemp("models") / family)
    return _BACKBONES[family]


@pytest.fixture
def family() -> str:
    return "bert"


class TestWhatPEFTTrainedAnswersTheSameHere:
    @pytest.mark.parametrize(("family", "task_type"), WITH_HEAD)
    def test_a_prefix_and_its_head(self, family, task_type, backbone, tmp_path):
        task, outputs = TASKS[task_type]
        theirs = make_adapter(backbone, "PREFIX_TUNING", task_type, tmp_path / "adapter")
        import_prompt("peft", tmp_path / "adapter", backbone, task, tmp_path / "ours", outputs=outputs)
        batch = batch_for(backbone)
        same(our_logits(tmp_path / "ours", backbone, batch), peft_logits(theirs, batch), batch)

    @pytest.mark.parametrize("family", CONVERTIBLE)
    @pytest.mark.parametrize("kind", ["PROMPT_TUNING", "P_TUNING"])
    def test_vectors_and_a_head_on_tokens(self, family, kind, backbone, tmp_path):
        task, outputs = TASKS["TOKEN_CLS"]
        theirs = make_adapter(backbone, kind, "TOKEN_CLS", tmp_path / "adapter")
        import_prompt("peft", tmp_path / "adapter", backbone, task, tmp_path / "ours", outputs=outputs)
        batch = batch_for(backbone)
        same(our_logits(tmp_path / "ours", backbone, batch), peft_logits(theirs, batch, skip=LENGTH), batch)

    @pytest.mark.parametrize("family", sorted(DECODERS))
    def test_vectors_and_a_head_on_the_last_token(self, family, backbone, tmp_path):
        """One row at a time: of padded ones PEFT's model reads the padding."""
        task, outputs = TASKS["SEQ_CLS"]
        theirs = make_adapter(backbone, "PROMPT_TUNING", "SEQ_CLS", tmp_path / "adapter")
        import_prompt("peft", tmp_path / "adapter", backbone, task, tmp_path / "ours", outputs=outputs)
        batch = batch_for(backbone, ["Peter visited London."])
        same(our_logits(tmp_path / "ours", backbone, batch), peft_logits(theirs, batch), batch)

    @pytest.mark.parametrize("settings", [{"encoder_hidden_size": 16}, {"encoder_reparameterization_type": "LSTM"}])
    def test_a_prompt_encoder_of_either_kind_is_folded_by_peft(self, settings, backbone, tmp_path):
        theirs = make_adapter(backbone, "P_TUNING", "FEATURE_EXTRACTION", tmp_path / "adapter", **settings)
        self._states_agree(theirs, backbone, tmp_path, skip=LENGTH)

    def test_a_prefix_with_a_projection(self, backbone, tmp_path):
        settings = {"prefix_projection": True, "encoder_hidden_size": 16}
        theirs = make_adapter(backbone, "PREFIX_TUNING", "FEATURE_EXTRACTION", tmp_path / "adapter", **settings)
        self._states_agree(theirs, backbone, tmp_path)

    def _states_agree(self, theirs, backbone, tmp_path, skip=0):
        batch = batch_for(backbone)
        batch.pop("token_type_ids", None)
        import_prompt("peft", tmp_path / "adapter", backbone, fw.Classification(), tmp_path / "ours", prompt_only=True)
        ours = our_states(load_artifact(tmp_path / "ours").prompt, backbone, batch)
        same(ours, peft_logits(theirs, batch, skip=skip), batch)

    def test_of_an_encoder_decoder_the_encoders_half_is_read_as_peft_does(self, tmp_path):
        backbone = tiny_backbone("t5", language_model=True)
        theirs = make_adapter(backbone, "PROMPT_TUNING", "SEQ_2_SEQ_LM", tmp_path / "adapter")
        assert load_file(tmp_path / "adapter" / "adapter_model.safetensors")["prompt_embeddings"].shape[0] == 2 * LENGTH
        import_prompt("peft", tmp_path / "adapter", backbone, fw.Classification(), tmp_path / "ours", prompt_only=True)
        batch = batch_for(backbone)
        with torch.no_grad():
            out = theirs(**batch, decoder_input_ids=torch.zeros((3, 1), dtype=torch.long))
        ours = our_states(load_artifact(tmp_path / "ours").prompt, backbone, batch)
        same(ours, out.encoder_last_hidden_state[:, LENGTH:], batch)

    def test_a_language_model_is_its_own_head(self, tmp_path):
        """So the adapter of one is imported whole for a task that reads words."""
        backbone = tiny_backbone("gpt2", language_model=True)
        theirs = make_adapter(backbone, "PREFIX_TUNING", "CAUSAL_LM", tmp_path / "adapter")
        task = fw.Classification(
            head="verbalizer", template="{text} It is", labels=("a", "b"), verbalizer={"a": "it", "b": "in"}
        )
        import_prompt("peft", tmp_path / "adapter", backbone, task, tmp_path / "ours")
        batch = batch_for(backbone)
        words = load_artifact(tmp_path / "ours").build_head(backbone).words
        with torch.no_grad():
            logits = theirs(**batch).logits
        last = batch["attention_mask"].sum(1) - 1
        same(our_logits(tmp_path / "ours", backbone, batch), logits[torch.arange(3), last][:, words], batch)

    def test_the_pooler_comes_from_the_backbones_checkpoint(self, backbone, tmp_path):
        make_adapter(backbone, "PREFIX_TUNING", "SEQ_CLS", tmp_path / "adapter")
        task, outputs = TASKS["SEQ_CLS"]
        import_prompt("peft", tmp_path / "adapter", backbone, task, tmp_path / "ours", outputs=outputs)
        artifact = load_artifact(tmp_path / "ours")
        pooler = base_model(backbone, "SEQ_CLS").bert.pooler.dense
        assert torch.equal(artifact.head["layers.1.weight"], pooler.weight)
        assert artifact.task.pooling == "first"
        assert artifact.task.hidden_layer

    def test_a_pickled_adapter_is_read_as_tensors(self, backbone, tmp_path):
        theirs = make_adapter(backbone, "PREFIX_TUNING", "FEATURE_EXTRACTION", tmp_path / "adapter")
        tensors = load_file(tmp_path / "adapter" / "adapter_model.safetensors")
        torch.save(tensors, tmp_path / "adapter" / "adapter_model.bin")
        (tmp_path / "adapter" / "adapter_model.safetensors").unlink()
        self._states_agree(theirs, backbone, tmp_path)


class TestTagsKeepTheirMeaning:
    def test_rows_follow_the_names_of_the_outputs(self, backbone, tmp_path):
        make_adapter(backbone, "PREFIX_TUNING", "TOKEN_CLS", tmp_path / "adapter")
        theirs = load_file(tmp_path / "adapter" / "adapter_model.safetensors")["base_model.classifier.weight"]
        import_prompt("peft", tmp_path / "adapter", backbone, fw.NER(), tmp_path / "ours", outputs=("I-X", "O", "B-X"))
        artifact = load_artifact(tmp_path / "ours")
        assert artifact.task.tags == ("O", "B-X", "I-X")
        assert artifact.task.layers == "last"
        assert torch.equal(artifact.head["linear.weight"], theirs[[1, 2, 0]])

    def test_all_layers_are_another_head(self, backbone, tmp_path):
        make_adapter(backbone, "PREFIX_TUNING", "TOKEN_CLS", tmp_path / "adapter")
        task = fw.NER(layers="all")
        with pytest.raises(RecipeError, match=r"task\.layers: is 'all', but the checkpoint's head has 'last'"):
            import_prompt("peft", tmp_path / "adapter", backbone, task, tmp_path / "ours", outputs=("I-X", "O", "B-X"))
        import_prompt("peft", tmp_path / "adapter", backbone, task, tmp_path / "ours", prompt_only=True)

    def test_so_is_one_that_compares_with_the_question(self, backbone, tmp_path):
        make_adapter(backbone, "PREFIX_TUNING", "QUESTION_ANS", tmp_path / "adapter")
        with pytest.raises(ArtifactError, match="have no head like that of the task 'qa'"):
            import_prompt("peft", tmp_path / "adapter", backbone, fw.QA(head="matching"), tmp_path / "ours")


class TestWhatWasMadeHereAnswersTheSameThere:
    @pytest.mark.parametrize(("family", "task_type"), WITH_HEAD)
    def test_a_prefix_and_its_head(self, family, task_type, backbone, tmp_path):
        pooled = {"pooling": "last"} if family in DECODERS else {"pooling": "first", "hidden_layer": True}
        task = {
            "SEQ_CLS": fw.Classification(labels=("no", "maybe", "yes"), **pooled),
            "TOKEN_CLS": fw.NER(labels=("PER",), layers="last"),
            "QUESTION_ANS": fw.QA(layers="last"),
        }[task_type]
        method = fw.PTuningV2(prompt_length=LENGTH, shift_positions=True)
        ours = artifact_of(tmp_path / "ours", backbone, method, task, zero_bias=family in DECODERS)
        export_prompt("peft", load_artifact(ours), tmp_path / "adapter")
        theirs = load_adapter(backbone, tmp_path / "adapter")
        batch = batch_for(backbone)
        same(our_logits(ours, backbone, batch), peft_logits(theirs, batch), batch)

    @pytest.mark.parametrize("family", TOKENS)
    def test_vectors_and_a_head_on_tokens(self, family, backbone, tmp_path):
        task = fw.NER(labels=("PER",), layers="last")
        ours = artifact_of(tmp_path / "ours", backbone, fw.PromptTuning(prompt_length=LENGTH), task)
        export_prompt("peft", load_artifact(ours), tmp_path / "adapter")
        theirs = load_adapter(backbone, tmp_path / "adapter")
        batch = batch_for(backbone)
        same(our_logits(ours, backbone, batch), peft_logits(theirs, batch, skip=LENGTH), batch)

    @pytest.mark.parametrize("family", ["modernbert", "bert", "gpt2"])
    def test_a_prompt_without_its_head(self, family, backbone, tmp_path):
        method = fw.PromptTuning(prompt_length=LENGTH)
        ours = artifact_of(tmp_path / "ours", backbone, method, fw.Classification(labels=("a", "b")))
        export_prompt("peft", load_artifact(ours), tmp_path / "adapter", prompt_only=True)
        batch = batch_for(backbone)
        batch.pop("token_type_ids", None)
        theirs = peft_logits(load_adapter(backbone, tmp_path / "adapter"), batch, skip=LENGTH)
        same(our_states(load_artifact(ours).prompt, backbone, batch), theirs, batch)

    @pytest.mark.parametrize("family", ["t5", "bart"])
    def test_vectors_for_an_encoder_decoder(self, family, tmp_path):
        backbone = tiny_backbone(family, language_model=True)
        method = fw.PromptTuning(prompt_length=LENGTH)
        ours = artifact_of(tmp_path / "ours", backbone, method, fw.Classification(labels=("a", "b")))
        export_prompt("peft", load_artifact(ours), tmp_path / "adapter", prompt_only=True)
        theirs, batch = load_adapter(backbone, tmp_path / "adapter"), batch_for(backbone)
        with torch.no_grad():
            out = theirs(**batch, decoder_input_ids=torch.zeros((3, 1), dtype=torch.long))
        states = our_states(load_artifact(ours).prompt, backbone, batch)
        same(states, out.encoder_last_hidden_state[:, LENGTH:], batch)

    @pytest.mark.parametrize(
        "method", [fw.PTuningV2(prompt_length=3, shift_positions=True), fw.PromptTuning(prompt_length=3)]
    )
    def test_there_and_back_every_bit_is_the_same(self, method, backbone, tmp_path):
        task = fw.NER(labels=("LOC", "PER"), layers="last")
        ours = load_artifact(artifact_of(tmp_path / "ours", backbone, method, task))
        export_prompt("peft", ours, tmp_path / "adapter")
        outputs = ("O", "B-LOC", "I-LOC", "B-PER", "I-PER")
        import_prompt("peft", tmp_path / "adapter", backbone, fw.NER(), tmp_path / "again", outputs=outputs)
        again = load_artifact(tmp_path / "again")
        assert again.head.keys() == ours.head.keys()
        assert all(torch.equal(again.head[name], tensor) for name, tensor in ours.head.items())
        before, after = prompt_names(ours.prompt), prompt_names(again.prompt)
        assert before.keys() == after.keys()
        assert all(torch.equal(after[name], tensor) for name, tensor in before.items())
        assert ", ".join(outputs) in (tmp_path / "adapter" / "README.md").read_text()

    def test_a_trained_tanh_layer_stands_in_for_berts_pooler(self, backbone, tmp_path):
        """There and back, and not the pooler of the checkpoint."""
        task = fw.Classification(labels=("a", "b"), pooling="first", hidden_layer=True)
        method = fw.PTuningV2(prompt_length=3, shift_positions=True)
        ours = load_artifact(artifact_of(tmp_path / "ours", backbone, method, task))
        export_prompt("peft", ours, tmp_path / "adapter")
        import_prompt("peft", tmp_path / "adapter", backbone, fw.Classification(), tmp_path / "x", outputs=("a", "b"))
        again = load_artifact(tmp_path / "x")
        assert all(torch.equal(again.head[name], tensor) for name, tensor in ours.head.items())


class TestAnImportedArtifact:
    def test_says_where_it_came_from_and_nothing_else(self, backbone, tmp_path):
        make_adapter(backbone, "PREFIX_TUNING", "SEQ_CLS", tmp_path / "adapter")
        task, outputs = TASKS["SEQ_CLS"]
        import_prompt("peft", tmp_path / "adapter", backbone, task, tmp_path / "ours", outputs=outputs)
        manifest = load_artifact(tmp_path / "ours").manifest
        assert manifest.imported["format"] == "peft"
        assert manifest.imported["peft_type"] == "PREFIX_TUNING"
        assert manifest.imported["files"].keys() == {"adapter_config.json", "adapter_model.safetensors"}
        assert (manifest.data, manifest.metrics.values, manifest.training.steps) == ({}, {}, 0)
        card = (tmp_path / "ours" / "README.md").read_text()
        assert "Imported from" in card
        assert "Results" not in card

    def test_predicts_through_the_front_door(self, backbone, tmp_path):
        make_adapter(backbone, "PREFIX_TUNING", "SEQ_CLS", tmp_path / "adapter")
        task, outputs = TASKS["SEQ_CLS"]
        import_prompt("peft", tmp_path / "adapter", backbone, task, tmp_path / "ours", outputs=outputs)
        (answer,) = fw.load(tmp_path / "ours").predict([{"text": "Anna visited London."}])
        assert answer["probabilities"].keys() == set(outputs)

    def test_without_a_head_answers_nothing_but_can_be_trained_from(self, backbone, tmp_path):
        make_adapter(backbone, "PROMPT_TUNING", "SEQ_CLS", tmp_path / "adapter")
        import_prompt("peft", tmp_path / "adapter", backbone, fw.Classification(), tmp_path / "ours", prompt_only=True)
        with pytest.raises(ArtifactError, match="without a head"):
            fw.load(tmp_path / "ours")
        assert "start_from" in (tmp_path / "ours" / "README.md").read_text()
        data = [{"text": "it", "label": "a"}, {"text": "in", "label": "b"}]
        run = fw.train(
            backbone,
            fw.PromptTuning(prompt_length=LENGTH, init="normal"),
            fw.Classification(),
            train=data,
            dev=data,
            progress=False,
            epochs=1,
            learning_rate=1e-9,
            start_from=str(tmp_path / "ours"),
        )
        wanted = load_artifact(tmp_path / "ours").prompt.inputs.vectors
        torch.testing.assert_close(run.model.prompt().inputs.vectors.detach(), wanted, rtol=0, atol=1e-6)

    def test_warns_of_another_models_name(self, backbone, tmp_path):
        make_adapter(backbone, "PREFIX_TUNING", "FEATURE_EXTRACTION", tmp_path / "adapter")
        _change(tmp_path / "adapter", base_model_name_or_path="bert-large-cased")
        warnings = import_prompt(
            "peft", tmp_path / "adapter", backbone, fw.Classification(), tmp_path / "ours", prompt_only=True
        )
        assert "bert-large-cased" in warnings[0]


def _change(adapter: Path, **settings) -> None:
    path = adapter / "adapter_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | settings))


def _tensors(adapter: Path, change) -> None:
    path = adapter / "adapter_model.safetensors"
    save_file({name: tensor.contiguous() for name, tensor in change(load_file(path)).items()}, path)


class TestAdaptersThatAreRefused:
    @pytest.mark.parametrize(
        ("damage", "says"),
        [
            (lambda a: _change(a, peft_type="LORA"), "peft_type is 'LORA'"),
            (lambda a: _change(a, num_virtual_tokens=4), "prompt_embeddings"),
            (lambda a: _change(a, num_virtual_tokens="5"), "num_virtual_tokens"),
            (lambda a: _change(a, task_type="TOKEN_CLS"), "--task ner"),
            (lambda a: _tensors(a, lambda t: {"prompt_embeddings": t["prompt_embeddings"][:, 1:]}), "another backbone"),
            (lambda a: _tensors(a, lambda t: {"prompt_embeddings": t["prompt_embeddings"] / 0}), "not finite"),
            (lambda a: _tensors(a, lambda t: {"x": t["prompt_embeddings"]}), "has no 'prompt_embeddings'"),
            (lambda a: (a / "adapter_config.json").write_text("{"), "adapter_config.json"),
            (lambda a: (a / "adapter_config.json").unlink(), "adapter_config.json"),
            (lambda a: (a / "adapter_model.safetensors").unlink(), "adapter_model.safetensors"),
        ],
    )  # fmt: skip
    def test_damaged_or_of_another_kind(self, damage, says, backbone, tmp_path):
        make_adapter(backbone, "PREFIX_TUNING", "SEQ_CLS", tmp_path / "adapter")
        damage(tmp_path / "adapter")
        task, outputs = TASKS["SEQ_CLS"]
        with pytest.raises(ArtifactError, match=says):
            import_prompt("peft", tmp_path / "adapter", backbone, task, tmp_path / "ours", outputs=outputs)
        assert not (tmp_path / "ours").exists()

    def test_a_pickle_that_is_more_than_tensors(self, backbone, tmp_path):
        make_adapter(backbone, "PREFIX_TUNING", "SEQ_CLS", tmp_path / "adapter")
        (tmp_path / "adapter" / "adapter_model.safetensors").unlink()
        torch.save({"prompt_embeddings": Path("/")}, tmp_path / "adapter" / "adapter_model.bin")
        with pytest.raises(ArtifactError, match="cannot be read as plain tensors"):
            import_prompt("peft", tmp_path / "adapter", backbone, fw.Classification(), tmp_path / "ours")

    @pytest.mark.parametrize(
        ("family", "kind", "task_type", "says"),
        [
            ("bert", "PROMPT_TUNING", "SEQ_CLS", "reads the prompt's first vector"),
            ("electra", "PREFIX_TUNING", "SEQ_CLS", "have no head like that"),
            ("bert", "PREFIX_TUNING", "QUESTION_ANS", "segment numbers"),
            ("modernbert", "PROMPT_TUNING", "TOKEN_CLS", "have no head like that"),
            ("albert", "PREFIX_TUNING", "TOKEN_CLS", "these models take no cache"),
            ("mistral", "PREFIX_TUNING", "TOKEN_CLS", "slides out"),
            ("t5", "PREFIX_TUNING", "TOKEN_CLS", "only the decoder"),
        ],
    )
    def test_what_would_be_another_function_here(self, family, kind, task_type, says, backbone, tmp_path):
        make_adapter(backbone, kind, task_type, tmp_path / "adapter")
        task, outputs = TASKS[task_type]
        with pytest.raises(ArtifactError, match=says):
            import_prompt("peft", tmp_path / "adapter", backbone, task, tmp_path / "ours", outputs=outputs)

    def test_a_pooler_that_the_checkpoint_does_not_have(self, backbone, tmp_path):
        make_adapter(backbone, "PREFIX_TUNING", "SEQ_CLS", tmp_path / "adapter")
        task, outputs = TASKS["SEQ_CLS"]
        bare = load_backbone(tiny_backbone("bert").name)
        with pytest.raises(ArtifactError, match="no pooler"):
            import_prompt("peft", tmp_path / "adapter", bare, task, tmp_path / "ours", outputs=outputs)

    @pytest.mark.parametrize(
        ("task_type", "task", "outputs", "says"),
        [
            ("SEQ_CLS", fw.Classification(), (), "3 outputs, none are given"),
            ("SEQ_CLS", fw.Classification(), ("a", "b"), "3 outputs, 2 are given"),
            ("SEQ_CLS", fw.Classification(labels=("a", "b", "c")), ("a", "c", "b"), "task.labels is a, b, c"),
            ("SEQ_CLS", fw.Classification(pooling="mean"), ("a", "b", "c"), "task.pooling"),
            ("TOKEN_CLS", fw.NER(labels=("PER",)), (), "3 outputs, none are given"),
            ("TOKEN_CLS", fw.NER(), ("O", "B-PER", "B-LOC"), "B-PER, I-PER"),
        ],
    )
    def test_labels_that_do_not_go_with_the_head(self, task_type, task, outputs, says, backbone, tmp_path):
        make_adapter(backbone, "PREFIX_TUNING", task_type, tmp_path / "adapter")
        with pytest.raises(RecipeError, match=says):
            import_prompt("peft", tmp_path / "adapter", backbone, task, tmp_path / "ours", outputs=outputs)


class TestPromptsThatPEFTHasNoWordsFor:
    @pytest.mark.parametrize(
        ("method", "says"),
        [
            (fw.PTuningV2(prompt_length=3), "position 0"),
            (fw.PTuningV2(prompt_length=3, shift_positions=True, layers=[0, 2]), "leaves out encoder.1"),
            (fw.PTuningV2(prompt_length=3, shift_positions=True, gate=True), "gates"),
            (fw.PromptTuning(prompt_length=3, placement="after-first"), "after first"),
            (fw.PTuning(template=(2, "text", 2)), "before last"),
            (fw.LayerDeltas(prompt_length=3), "layer deltas"),
        ],
    )
    def test_of_other_kinds(self, method, says, backbone, tmp_path):
        ours = artifact_of(tmp_path / "ours", backbone, method, fw.NER(labels=("PER",)))
        with pytest.raises(ArtifactError, match=says):
            export_prompt("peft", load_artifact(ours), tmp_path / "adapter")
        assert not (tmp_path / "adapter").exists()

    @pytest.mark.parametrize(
        ("family", "task", "says"),
        [
            ("bert", fw.Classification(labels=("a", "b")), "task.pooling = 'first'"),
            ("bert", fw.QA(), "segment numbers"),
            ("bert", fw.NER(labels=("PER",)), "reads all layers, and heads of PEFT's models read the last one"),
            ("roberta", fw.QA(), "reads all layers, and heads of PEFT's models read the last one"),
            ("gpt2", fw.Classification(labels=("a", "b"), pooling="last"), "without a bias"),
            ("electra", fw.Classification(labels=("a", "b"), pooling="first", hidden_layer=True), "no head like"),
        ],
    )
    def test_heads(self, family, task, says, backbone, tmp_path):
        method = fw.PTuningV2(prompt_length=3, shift_positions=True)
        ours = artifact_of(tmp_path / "ours", backbone, method, task)
        with pytest.raises(ArtifactError, match=says):
            export_prompt("peft", load_artifact(ours), tmp_path / "adapter")

    def test_artifacts_without_a_prompt(self, backbone, tmp_path):
        from tiny_artifacts import tiny_artifact

        for method in ("head-only", "fine-tuning"):
            with pytest.raises(ArtifactError, match=r"no prompt|changes the backbone"):
                export_prompt("peft", load_artifact(tiny_artifact("classification", method)), tmp_path / "adapter")

    def test_a_place_that_is_taken(self, backbone, tmp_path):
        ours = artifact_of(tmp_path / "ours", backbone, fw.PromptTuning(prompt_length=3), fw.NER(labels=("PER",)))
        with pytest.raises(OutputError, match="exists already"):
            export_prompt("peft", load_artifact(ours), ours)


def test_the_settings_are_those_that_any_version_of_peft_knows(backbone, tmp_path):
    """Unknown ones break older versions."""
    method, task = fw.PTuningV2(prompt_length=3, shift_positions=True), fw.NER(labels=("PER",), layers="last")
    ours = artifact_of(tmp_path / "ours", backbone, method, task)
    export_prompt("peft", load_artifact(ours), tmp_path / "adapter")
    written = json.loads((tmp_path / "adapter" / "adapter_config.json").read_text())
    make_adapter(backbone, "PREFIX_TUNING", "TOKEN_CLS", tmp_path / "theirs")
    theirs = json.loads((tmp_path / "theirs" / "adapter_config.json").read_text())
    assert written.keys() <= theirs.keys()
    for name in ("num_layers", "num_attention_heads", "token_dim", "num_transformer_submodules"):
        assert written[name] == theirs[name]
