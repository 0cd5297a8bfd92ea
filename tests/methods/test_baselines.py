"""Methods that change the backbone's modules: against the same change made by hand, and alone in what they change."""

from __future__ import annotations

import shutil
import signal
import sys
import threading
from types import SimpleNamespace

import pytest
import torch
from pydantic import ValidationError
from safetensors.torch import load_file

import foreword as fw
from foreword.artifacts.format import load_artifact, save_artifact
from foreword.attachment import Attachment, active
from foreword.backbones.fingerprint import weights_digest
from foreword.data.batching import Batch
from foreword.errors import ArtifactError, BackboneError, MethodError
from foreword.heads import Head
from foreword.methods import IA3, Adapter, BitFit, FineTuning, HeadOnly, LNTuning, LoRA, Method, PTuningV2, attach
from foreword.model import PromptedModel
from foreword.training.loop import Interrupted
from plain import TEXTS, batch_of, plain_model, row_of
from tiny import TINY, tiny_backbone
from tiny_artifacts import answers_of, change_manifest, change_tensors, records, tiny_artifact, train_tiny
from tiny_runs import Recorder, tiny_trainer

FAMILIES = ["bert", "roberta", "electra", "albert", "deberta", "deberta-v2", "mpnet", "distilbert", "gpt2", "t5"]
PLAIN = ["bert", "roberta", "electra", "gpt2", "t5"]  # run here without our seam as well
ATTACHED = {"lora": LoRA(r=2, alpha=6), "ia3": IA3(), "adapter": Adapter(bottleneck=3)}
IN_PLACE = {"bitfit": BitFit(), "ln-tuning": LNTuning()}
BASELINES = {**ATTACHED, **IN_PLACE}
NO_BIASES = {"t5"}


@pytest.fixture(params=FAMILIES)
def some_family(request):
    return request.param


def attaching():
    return pytest.mark.parametrize("method", [pytest.param(method, id=name) for name, method in ATTACHED.items()])


class First(Head):
    """Hidden states as they are."""

    def __init__(self):
        super().__init__()
        self.scale = torch.nn.Parameter(torch.ones(()))

    def forward(self, hidden, mask, marks=None):
        return hidden * self.scale


def shaken(module, seed=0, scale=0.5):
    """Every number moved from where it starts, so that nothing is zero or one by luck."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(scale * torch.randn(parameter.shape, generator=generator).to(parameter))
    return module


def model_of(method, backbone, seed=0):
    """A model with attached modules that do something, and no dropout."""
    torch.manual_seed(seed)
    model = PromptedModel(backbone, method, First()).eval()
    if model.attachment is not None:
        shaken(model.attachment, seed)
    return model


def batch_from(backbone, texts=TEXTS):
    inputs = batch_of(backbone, [row_of(backbone, text) for text in texts])
    return Batch(**{"token_type_ids": None, "targets": {}, "indices": (), **inputs})


@torch.inference_mode()
def bare(backbone, batch):
    return backbone.eval()(batch.input_ids, batch.attention_mask, batch.token_type_ids)


def routed(backbone):
    return [name for name, module in backbone.model.named_modules() if "forward" in module.__dict__]


class TestByHand:
    """The backbone's files, run by transformers alone in float64, with the change written into their weights."""

    @pytest.fixture(params=PLAIN)
    def backbone(self, request):
        return tiny_backbone(request.param, dtype=torch.float64)

    @torch.no_grad()
    def assert_same(self, method, backbone, change):
        model = model_of(method, backbone)
        model.double()
        plain = plain_model(backbone, dtype=torch.float64)
        plain = plain.get_encoder() if backbone.family == "t5" else plain
        for key, part in model.attachment.items():
            name = key.replace("-", ".")
            change(plain.get_submodule(name), part, name)
        for text in TEXTS:
            row = row_of(backbone, text)
            inputs = {name: torch.tensor([ids]) for name, ids in row.items()}
            expected = plain(**inputs).last_hidden_state
            found = model(batch_from(backbone, [text]))
            assert torch.allclose(found, expected, rtol=1e-9, atol=1e-9)
            assert not torch.allclose(bare(backbone, batch_from(backbone, [text])), expected, atol=1e-3)

    def test_lora_adds_alpha_over_r_times_b_a(self, backbone):
        def change(linear, part, name):
            product = 3 * part.lora_B["default"].weight @ part.lora_A["default"].weight
            linear.weight += product if isinstance(linear, torch.nn.Linear) else product.T

        self.assert_same(LoRA(r=2, alpha=6), backbone, change)

    def test_ia3_scales_outputs_and_inputs(self, backbone):
        def change(linear, part, name):
            factors = part.ia3_l["default"].flatten()
            rows, columns = factors[:, None], factors
            if not isinstance(linear, torch.nn.Linear):  # GPT-2's are transposed
                rows, columns = columns, rows
            if name.endswith(("output.dense", "mlp.c_proj", "wo")):
                linear.weight *= columns
                return
            linear.weight *= rows
            if linear.bias is not None:
                linear.bias *= factors

        self.assert_same(IA3(), backbone, change)

    def test_an_adapter_adds_what_goes_through_its_bottleneck(self, backbone):
        def after(part):
            def hook(_, __, out):
                hidden = out[0] if isinstance(out, tuple) else out
                narrow = torch.einsum("btd,nd->btn", hidden, part.down.weight) + part.down.bias
                wide = torch.einsum("btn,dn->btd", narrow * (narrow > 0), part.up.weight) + part.up.bias
                return (hidden + wide, *out[1:]) if isinstance(out, tuple) else hidden + wide

            return hook

        self.assert_same(
            Adapter(bottleneck=5), backbone, lambda layer, part, _: layer.register_forward_hook(after(part)) and None
        )


class TestWhereTheyStand:
    @pytest.mark.parametrize(
        ("family", "method", "ends"),
        [
            ("bert", LoRA(), {"query", "value"}),
            ("gpt2", LoRA(), {"c_attn"}),
            ("t5", LoRA(), {"q", "v"}),
            ("mpnet", LoRA(), {"q", "v"}),
            ("distilbert", LoRA(), {"q_lin", "v_lin"}),
            ("bert", LoRA(targets=("output.dense",)), {"dense"}),
            ("bert", IA3(), {"key", "value", "dense"}),
            ("roberta", IA3(feedforward=()), {"key", "value", "dense"}),
            ("distilbert", IA3(), {"k_lin", "v_lin", "lin2"}),
            ("mpnet", IA3(targets=("k",), feedforward=("output.dense",)), {"k", "dense"}),
        ],
    )
    def test_targets(self, family, method, ends):
        attachment = attach(method, tiny_backbone(family))
        assert {name.rpartition("-")[2] for name in attachment} == ends
        assert len(attachment) % 3 == 0

    def test_one_adapter_per_layer_and_one_for_layers_that_share_their_weights(self):
        names = {family: list(attach(Adapter(), tiny_backbone(family))) for family in ("bert", "t5", "gpt2", "albert")}
        assert names == {
            "bert": [f"encoder-layer-{n}" for n in range(3)],
            "t5": [f"block-{n}" for n in range(3)],
            "gpt2": [f"h-{n}" for n in range(3)],
            "albert": ["encoder-albert_layer_groups-0-albert_layers-0"],
        }

    @pytest.mark.parametrize(
        ("method", "says"),
        [
            (LoRA(targets=("qwerty",)), r"targets: no linear module is called 'qwerty' here. There are: dense, key, q"),
            (LoRA(targets=("uery",)), "no linear module is called 'uery'"),
            (LoRA(targets=()), "targets: names no module"),
            (IA3(feedforward=("x",)), "feedforward: no linear module is called 'x'"),
            (BitFit(modules=("query", "qwerty")), "modules: no module with a bias is called 'qwerty' here"),
        ],
    )
    def test_refused_and_nothing_left_behind(self, method, says):
        backbone = tiny_backbone()
        with pytest.raises(MethodError, match=says):
            PromptedModel(backbone, method, First())
        assert routed(backbone) == []
        assert not backbone.tuned

    def test_no_default_names_the_modules(self):
        backbone = SimpleNamespace(places={"odd": torch.nn.Linear(2, 2)}, family="odd")
        with pytest.raises(MethodError, match=r"no default for a odd model. Name linear modules .*: odd"):
            LoRA().attach(backbone, Attachment())

    def test_one_place_is_changed_once(self):
        backbone, attachment = tiny_backbone(), Attachment()
        LoRA().attach(backbone, attachment)
        Adapter().attach(backbone, attachment)  # other places
        with pytest.raises(MethodError, match=r"change the same module, 'encoder\.layer\.0\.attention\.self\.query'"):
            LoRA().attach(backbone, attachment)

    @pytest.mark.parametrize("method", [LoRA(), IA3()])
    def test_without_peft_one_is_told_how_to_get_it(self, method, monkeypatch):
        monkeypatch.setitem(sys.modules, "peft", None)  # as if it were not installed
        with pytest.raises(MethodError, match=rf"'{method.name}' needs HF PEFT. Run: pip install 'foreword\[peft\]'"):
            attach(method, tiny_backbone())

    @pytest.mark.parametrize(
        ("method", "settings"),
        [
            (LoRA, {"r": 0}),
            (LoRA, {"rank": 2}),
            (LoRA, {"dropout": 1}),
            (Adapter, {"activation": "x"}),
            (IA3, {"r": 1}),
        ],
    )
    def test_settings(self, method: type[Method], settings):
        with pytest.raises(ValidationError):
            method(**settings)


@attaching()
class TestOneBackboneForMany:
    def test_a_fresh_one_changes_nothing(self, method, some_family):
        backbone = tiny_backbone(some_family)
        batch = batch_from(backbone)
        model = PromptedModel(backbone, method, First()).eval()
        with torch.inference_mode():
            assert torch.equal(model(batch), bare(backbone, batch))

    def test_at_work_in_its_own_model_only(self, method, some_family):
        backbone = tiny_backbone(some_family)
        batch, names, digest = batch_from(backbone), list(backbone.model.state_dict()), weights_digest(backbone.model)
        modules = [(name, id(module)) for name, module in backbone.model.named_modules()]
        before, prompted = bare(backbone, batch), PromptedModel(backbone, PTuningV2(prompt_length=2), First()).eval()
        with torch.inference_mode():
            alone = prompted(batch)
            models = [model_of(method, backbone, seed) for seed in (1, 2)]
            first = [model(batch) for model in models]
            assert not torch.allclose(first[0], first[1], atol=1e-3)
            assert not torch.allclose(first[0], before, atol=1e-3)
            assert torch.equal(bare(backbone, batch), before)
            assert torch.equal(prompted(batch), alone)
            assert all(torch.equal(model(batch), out) for model, out in zip(models, first, strict=True))
            assert list(backbone.model.state_dict()) == names
            assert [(name, id(module)) for name, module in backbone.model.named_modules()] == modules
            assert weights_digest(backbone.model) == digest == backbone.identity.weights
            models[0].attachment.detach()
            assert torch.equal(models[1](batch), first[1])
            models[1].attachment.detach()
        assert routed(backbone) == []
        assert torch.equal(bare(backbone, batch), before)

    def test_an_error_inside_leaves_it_off(self, method):
        backbone = tiny_backbone()
        batch = batch_from(backbone)
        before, model = bare(backbone, batch), model_of(method, backbone)
        with pytest.raises(RuntimeError, match="inside"), model.adapted():
            raise RuntimeError("inside")
        assert torch.equal(bare(backbone, batch), before)

    def test_threads_do_not_see_one_anothers(self, method):
        backbone = tiny_backbone()
        batch = batch_from(backbone)
        models = [model_of(one, backbone, seed) for seed, one in enumerate((method, method, method, HeadOnly()))]
        together = threading.Barrier(len(models))
        wrong = []

        @torch.inference_mode()
        def work(model, expected):
            for _ in range(10):
                together.wait()
                if not torch.equal(model.eval()(batch), expected):
                    wrong.append(model)

        with torch.inference_mode():
            expected = [model.eval()(batch) for model in models]
        threads = [threading.Thread(target=work, args=pair) for pair in zip(models, expected, strict=True)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert wrong == []

    def test_what_was_dropped_is_gone(self, method):
        backbone = tiny_backbone()
        batch = batch_from(backbone)
        before, model = bare(backbone, batch), model_of(method, backbone)
        places = [module for module in backbone.model.modules() if "forward" in module.__dict__]
        del model
        assert places
        assert all(len(module.__dict__["forward"].detours) == 0 for module in places)
        assert torch.equal(bare(backbone, batch), before)


@attaching()
class TestGradients:
    def gradients(self, method, backbone, between=lambda: None):
        model = model_of(method, backbone, 1)
        batch = batch_from(backbone)
        model.train()
        loss = model(batch).pow(2).sum()
        between()
        # As on a GPU, whose backward pass runs in a thread of its own, where nothing is at work.
        elsewhere = threading.Thread(target=loss.backward)
        elsewhere.start()
        elsewhere.join()
        assert all(p.grad is None for p in backbone.parameters())
        return {name: p.grad.clone() for name, p in model.attachment.named_parameters()}

    def test_recomputing_sees_what_the_forward_pass_saw(self, method, some_family):
        """Also when other models run, or nothing is at work, before the backward pass."""
        expected = self.gradients(method, tiny_backbone(some_family))
        assert expected
        assert all(gradient.abs().sum() > 0 for gradient in expected.values())
        backbone = tiny_backbone(some_family)
        backbone.gradient_checkpointing()
        batch, other = batch_from(backbone), model_of(method, backbone, 2)
        for between in (lambda: None, lambda: bare(backbone, batch), lambda: other(batch)):
            found = self.gradients(method, backbone, between)
            for name, gradient in expected.items():
                assert torch.allclose(found[name], gradient, rtol=1e-4, atol=1e-4 * float(gradient.abs().max()))

    @pytest.mark.parametrize("precision", ["float32", "bf16"])
    @pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
    def test_trained_in_float32_whatever_the_backbone_is(self, method, precision, dtype):
        backbone = tiny_backbone(dtype=dtype)
        model = model_of(method, backbone)
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=precision == "bf16"), model.adapted():
            batch = batch_from(backbone)
            hidden = backbone(batch.input_ids, batch.attention_mask, batch.token_type_ids)
        hidden.float().sum().backward()
        assert {p.dtype for p in model.attachment.parameters()} == {torch.float32}
        assert all(p.grad is not None and p.grad.dtype == torch.float32 for p in model.attachment.parameters())
        if dtype == torch.bfloat16:
            assert hidden.dtype == torch.bfloat16


def in_place(method, weights):
    """What of a backbone's own weights a baseline trains."""
    if method == "ln-tuning":
        layers = {f"{n}." for n, module in weights.named_modules() if "Norm" in type(module).__name__}
        return {n for n, _ in weights.named_parameters() if n.startswith(tuple(layers))}
    return {n for n, _ in weights.named_parameters() if method == "bitfit" and "bias" in n.rpartition(".")[2]}


@pytest.mark.parametrize("name", BASELINES)
class TestTraining:
    @pytest.fixture(autouse=True)
    def _with_biases(self, request, name):
        family = request.node.callspec.params.get("some_family")
        if name == "bitfit" and family in NO_BIASES:
            with pytest.raises(MethodError, match="the backbone has no bias terms"):
                PromptedModel(tiny_backbone(family), BitFit(), First())
            pytest.skip("has no biases, and that is said")

    def test_exactly_what_is_trained_moves(self, name, some_family):
        trainer = tiny_trainer(
            method=BASELINES[name], family=some_family, epochs=1, batch_size=8, weight_decay=0.1, precision="bf16"
        )
        model, weights = trainer.model, trainer.model.backbone.model
        before = {n: p.detach().clone() for n, p in (*model.trainable(), *weights.state_dict(prefix="~").items())}
        trainer.fit()
        after = {n: p.detach() for n, p in (*model.trainable(), *weights.state_dict(prefix="~").items())}
        assert before.keys() == after.keys()
        moved = {n for n in before if not torch.equal(before[n], after[n])}
        tuned = in_place(name, weights)
        trained = {n for n, _ in model.trainable()}
        assert moved == trained | {f"~{n}" for n in tuned}
        assert {n.removeprefix("backbone.") for n in trained if n.startswith("backbone.")} == tuned
        assert {n.partition(".")[0] for n in trained} == {"head", "backbone" if tuned else "attachment"}
        assert {n for n, p in weights.named_parameters() if p.requires_grad} == tuned

    def test_resumed_equals_uninterrupted(self, name, tmp_path):
        method = LoRA(r=2, dropout=0.2) if name == "lora" else BASELINES[name]
        whole = tiny_trainer(method=method)
        whole.fit()

        def stop(kind, step):
            if kind == "step" and step == 4:
                signal.raise_signal(signal.SIGINT)

        first = tiny_trainer(method=method, tracker=Recorder(stop), checkpoint=tmp_path / "c")
        with pytest.raises(Interrupted):
            first.fit()
        second = tiny_trainer(method=method, checkpoint=tmp_path / "c")
        second.resume()
        second.fit()
        ours, theirs = whole.model.state(), second.model.state()
        assert ours.keys() == theirs.keys()
        assert all(torch.equal(ours[n], theirs[n]) for n in ours)


class TestBitFit:
    def test_some_modules_only(self):
        backbone = tiny_backbone()
        model = PromptedModel(backbone, BitFit(modules=("query", "intermediate.dense")), First())
        ends = ("attention.self.query.bias", "intermediate.dense.bias")
        assert model.tuned == {f"encoder.layer.{n}.{end}" for n in range(3) for end in ends}
        assert backbone.tuned == model.tuned

    def test_the_extra_biases_of_deberta_are_bias_terms(self):
        names = PromptedModel(tiny_backbone("deberta"), BitFit(), First()).tuned
        assert {f"encoder.layer.0.attention.self.{letter}_bias" for letter in "qv"} <= names


class TestLNTuning:
    @pytest.mark.parametrize("family", sorted(TINY))
    def test_gains_and_biases_of_all_normalization_layers(self, family):
        weights = tiny_backbone(family).model
        names = LNTuning().tuned([name for name, _ in weights.named_parameters()])
        assert names == in_place("ln-tuning", weights)
        assert {p.dim() for n, p in weights.named_parameters() if n in names} == {1}

    def test_a_backbone_without_any(self):
        with pytest.raises(MethodError, match="no module of the backbone is called a norm"):
            LNTuning().tuned(["encoder.layer.0.query.weight", "normal_head.query.bias"])


class TestArtifacts:
    @pytest.fixture
    def artifact_copy(self, tmp_path):
        return lambda method: shutil.copytree(tiny_artifact("classification", method), tmp_path / "a")

    @pytest.mark.parametrize("method", BASELINES)
    def test_the_same_logits_on_a_fresh_and_on_a_shared_backbone(self, method, tmp_path):
        run = train_tiny("classification", method)
        run.save(tmp_path / "a")
        expected = answers_of(fw.load(tmp_path / "a", backbone=tiny_backbone()))
        shared = tiny_backbone()
        batch = batch_from(shared)
        before = bare(shared, batch)
        prompted = fw.load(tiny_artifact(), backbone=shared)
        said = answers_of(prompted)
        loaded = fw.load(tmp_path / "a", backbone=shared)
        assert answers_of(loaded) == expected
        if method in IN_PLACE:
            with pytest.raises(BackboneError, match=r"changed by another model since .* Load a backbone of its own"):
                answers_of(prompted)
            return
        assert torch.equal(bare(shared, batch), before)
        assert answers_of(prompted) == said
        other = fw.load(tiny_artifact("classification", "lora"), backbone=shared)
        assert answers_of(other) == answers_of(fw.load(tiny_artifact("classification", "lora")))
        assert answers_of(loaded) == expected
        save_artifact(tmp_path / "again", loaded.model, loaded.artifact.manifest)
        assert answers_of(fw.load(tmp_path / "again")) == expected

    def test_sizes_and_names(self):
        names = [*BASELINES, "fine-tuning"]
        counts = {name: load_artifact(tiny_artifact("classification", name)).manifest for name in names}
        biases = {n: p for n, p in tiny_backbone().model.named_parameters() if n.endswith("bias")}
        numbers = sum(p.numel() for p in biases.values())
        assert counts["bitfit"].parameters.backbone_trained == numbers
        assert counts["bitfit"].parameters.attachment == counts["bitfit"].parameters.prompt == 0
        assert numbers * 4 < counts["bitfit"].files["backbone.safetensors"].bytes < numbers * 4 + 4096
        assert load_file(tiny_artifact("classification", "bitfit") / "backbone.safetensors").keys() == biases.keys()
        assert counts["lora"].parameters.attachment == 3 * 2 * 2 * (32 + 32)  # layers, targets, r, in and out
        assert counts["ia3"].parameters.attachment == 3 * (32 + 32 + 32 + 64)
        assert counts["adapter"].parameters.attachment == 3 * (2 * 3 * 32 + 3 + 32)
        for name in ATTACHED:
            served = load_file(tiny_artifact("classification", name) / "prompt.safetensors")
            trained = sum(t.numel() for n, t in served.items() if n.startswith("attachment/"))
            assert trained == counts[name].parameters.attachment
            assert counts[name].parameters.trained == trained + counts[name].parameters.head
        assert counts["fine-tuning"].parameters.backbone_trained == counts["fine-tuning"].parameters.backbone

    @pytest.mark.parametrize(
        ("change", "says"),
        [
            (lambda tensors: tensors | {"attachment/more": torch.zeros(1)}, r"'more' is \(1,\), expected none"),
            (
                lambda tensors: {n: t for n, t in tensors.items() if not n.endswith("-0.up.bias")},
                r"'encoder-layer-0.up.bias' is missing, expected \(32,\)",
            ),
            (lambda tensors: tensors | {"attachment/encoder-layer-0.up.bias": torch.zeros(3)}, r"is \(3,\), expected"),
            (lambda tensors: tensors | {"attachment/a/b": torch.zeros(1)}, "is no tensor of a head, a prompt or"),
        ],
    )
    def test_tensors_that_do_not_fit_are_refused(self, artifact_copy, change, says):
        folder = artifact_copy("adapter")
        change_tensors(folder, change)
        backbone = tiny_backbone()
        with pytest.raises(ArtifactError, match=says):
            fw.load(folder, backbone=backbone)
        assert routed(backbone) == []

    @pytest.mark.parametrize(
        ("method", "settings", "says"),
        [
            ("adapter", {"bottleneck": 10**12}, "what it attaches does not fit"),  # and no memory is asked for it
            ("lora", {"r": 10**9}, "what it attaches does not fit"),
            ("lora", {"targets": ["key"]}, "what it attaches does not fit"),
            ("lora", {"targets": ["qwerty"]}, "cannot be put into the backbone .*no linear module is called 'qwerty'"),
            ("bitfit", {"modules": ["qwerty"]}, "do not fit the backbone .*no module with a bias is called 'qwerty'"),
            ("bitfit", {"modules": ["query"]}, "does not fit the backbone"),
        ],
    )
    def test_settings_that_are_not_of_its_tensors_are_refused(self, artifact_copy, method, settings, says):
        folder = artifact_copy(method)
        change_manifest(folder, lambda raw: raw["method"]["settings"].update(settings))
        backbone = tiny_backbone()
        with pytest.raises(ArtifactError, match=says):
            fw.load(folder, backbone=backbone)
        assert routed(backbone) == []
        assert not backbone.tuned

    def test_loading_draws_no_random_numbers(self):
        before = torch.get_rng_state()
        load_artifact(tiny_artifact("classification", "lora"))._attach(tiny_backbone())
        assert torch.equal(torch.get_rng_state(), before)

    @pytest.mark.parametrize("method", [*BASELINES, "fine-tuning"])
    def test_they_do_not_share_a_batch(self, method):
        artifacts = {"a": load_artifact(tiny_artifact()), "b": load_artifact(tiny_artifact("classification", method))}
        with pytest.raises(ArtifactError, match=f"b: '{method}' changes the backbone itself"):
            fw.Engine(tiny_backbone(), artifacts).predict([("b", {"text": "x"})])

    def test_mixed_answers_stop_when_the_backbone_is_changed(self):
        backbone = tiny_backbone()
        mixed = fw.Engine(backbone, {"a": load_artifact(tiny_artifact())})
        item = records("classification", labelled=False)[0]
        mixed.predict([("a", item)])
        fw.load(tiny_artifact("classification", "fine-tuning"), backbone=backbone)
        with pytest.raises(BackboneError, match="changed by another model"):
            mixed.predict([("a", item)])

    @pytest.mark.parametrize("method", ["lora", "bitfit", "ln-tuning", "head-only"])
    def test_nothing_that_needs_the_published_weights_goes_onto_tuned_ones(self, method):
        backbone = tiny_backbone()
        tuned = fw.load(tiny_artifact("classification", "fine-tuning"), backbone=backbone)
        with pytest.raises(ArtifactError, match="Load it anew"):
            fw.load(tiny_artifact("classification", method), backbone=backbone)
        answers_of(tuned)  # which still goes on

    def test_all_weights_put_back_over_some_tuned_ones(self):
        backbone = tiny_backbone()
        first = fw.load(tiny_artifact("classification", "bitfit"), backbone=backbone)
        second = fw.load(tiny_artifact("classification", "fine-tuning"), backbone=backbone)
        assert answers_of(second) == answers_of(fw.load(tiny_artifact("classification", "fine-tuning")))
        with pytest.raises(BackboneError, match="changed by another model"):
            answers_of(first)


def test_the_language_model_of_an_encoder_decoder_is_changed_in_both_stacks():
    backbone = tiny_backbone("t5", language_model=True)
    assert len(backbone.layers) == 5
    assert [*attach(Adapter(), backbone)] == [
        *(f"block-{n}" for n in range(3)),
        *(f"decoder-block-{n}" for n in range(2)),
    ]
    assert len(attach(LoRA(), backbone)) == 2 * (3 + 2 + 2)  # q and v of self-, self- and cross-attention


@attaching()
@pytest.mark.parametrize("family", ["bert", "gpt2"])
def test_places_have_one_name_with_a_vocabulary_head_and_without(method, family):
    """So one loaded for a verbalizer serves them as well."""
    trunk, whole = tiny_backbone(family), tiny_backbone(family, language_model=True)
    assert whole.trunk is not whole.model
    attachment = attach(method, whole)
    assert list(attach(method, trunk)) == list(attachment)
    batch, model = batch_from(whole), model_of(method, whole)
    with torch.inference_mode():
        assert not torch.allclose(model(batch), bare(whole, batch), atol=1e-3)


def test_nothing_is_attached_by_methods_that_attach_nothing():
    backbone = tiny_backbone()
    assert all(attach(method, backbone) is None for method in (HeadOnly(), PTuningV2(), FineTuning(), BitFit()))
    with active(None):
        assert routed(backbone) == []
