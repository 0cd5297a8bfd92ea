"""Scale and shift: what the plain model gives whose norms are changed, and beside every other kind of prompt."""

from __future__ import annotations

import pytest
import torch

import foreword as fw
from foreword.artifacts.format import load_artifact
from foreword.errors import ArtifactError, BackboneError, MethodError
from foreword.exchange.leaving import check_leaves
from foreword.injection import Injection, Modulation, Prompt
from foreword.methods import SSF, Blueprint, Combined, PromptTuning, PTuningV2, average, fold, stack
from plain import TEXTS, batch_of, plain_model, row_of
from tiny import tiny_backbone
from tiny_artifacts import change_tensors, tiny_artifact, train_tiny
from tiny_runs import tiny_trainer

LAYERS = {
    "gpt2": lambda model: model.h,
    "llama": lambda model: model.layers,
    "deberta-v2": lambda model: model.encoder.layer,
    "modernbert": lambda model: model.layers,
    "t5": lambda model: model.encoder.block,
}


def strong(encoder):
    """As after training; all begins at zero."""
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for parameter in encoder.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.5)
    return encoder.eval()


def built(backbone):
    return strong(SSF().build(backbone))


def hidden_of(backbone, prompt, row):
    batch = batch_of(backbone, [row])
    with torch.no_grad():
        return backbone(**batch, injection=Injection([prompt]))[0]


def test_bert_with_the_gains_and_biases_of_its_norms_changed():
    backbone = tiny_backbone("bert")
    encoder, model = built(backbone), plain_model(backbone)
    norms = [model.embeddings.LayerNorm, *(layer.output.LayerNorm for layer in model.encoder.layer[:-1])]
    with torch.no_grad():
        for norm, scale, shift in zip(norms, encoder.scale, encoder.shift, strict=True):
            norm.weight.mul_(1 + scale)
            norm.bias.copy_(norm.bias * (1 + scale) + shift)
    for text in TEXTS:
        row = row_of(backbone, text)
        with torch.no_grad():
            expected = model(**{name: torch.tensor([ids]) for name, ids in row.items()}).last_hidden_state[0]
        torch.testing.assert_close(hidden_of(backbone, encoder(), row), expected, rtol=1e-4, atol=2e-5)
        assert (hidden_of(backbone, Prompt(), row) - expected).abs().max() > 0.05


@pytest.mark.parametrize("family", LAYERS)
def test_the_plain_model_with_what_its_layers_are_given_changed(family):
    backbone = tiny_backbone(family)
    encoder, model = built(backbone), plain_model(backbone)
    for layer, scale, shift in zip(LAYERS[family](model), encoder.scale, encoder.shift, strict=True):
        layer.register_forward_pre_hook(
            lambda _, args, scale=scale, shift=shift: (args[0] * (1 + scale) + shift, *args[1:])
        )
    part = model.encoder if family == "t5" else model
    row = row_of(backbone, TEXTS[1])
    with torch.no_grad():
        expected = part(**{name: torch.tensor([ids]) for name, ids in row.items()}).last_hidden_state[0]
    torch.testing.assert_close(hidden_of(backbone, encoder(), row), expected, rtol=1e-4, atol=5e-5)


def test_it_starts_by_changing_nothing(backbone):
    row = row_of(backbone, TEXTS[0])
    assert torch.equal(hidden_of(backbone, SSF().build(backbone)(), row), hidden_of(backbone, Prompt(), row))


def test_every_layer_learns():
    trainer = tiny_trainer(method=SSF(), epochs=1)
    trainer.fit()
    for parameter in (trainer.model.prompt.scale, trainer.model.prompt.shift):
        assert parameter.ne(0).any(-1).all()


def bank_of(backbone):
    torch.manual_seed(4)
    both = Combined(parts=(PTuningV2(prompt_length=2), SSF())).build(backbone)
    return [
        built(backbone)(),
        PTuningV2(prompt_length=3).build(backbone)(),
        strong(both)(),
        PromptTuning(prompt_length=4, init="uniform").build(backbone)(),
        Prompt(),
        Prompt(modulations={1: Modulation(torch.randn(32), torch.randn(32))}),
    ]


@pytest.mark.parametrize("family", ["bert", "roberta", "deberta-v2", "gpt2"])
@pytest.mark.parametrize("kinds", ["keys and values", "all"])
def test_rows_beside_every_kind_of_prompt_equal_rows_alone(family, kinds):
    """With vectors among the embeddings, and without, where a CPU computes rows of unequal length without padding."""
    backbone = tiny_backbone(family).eval()
    bank = bank_of(backbone)
    chosen = [number for number in (2, 0, 4, 1, 3, 5, 2, 1, 0, 3, 4) if kinds == "all" or number != 3]
    rows = [row_of(backbone, TEXTS[number % 3]) for number in range(len(chosen))]
    batch = batch_of(backbone, rows)
    with torch.no_grad():
        together = backbone(**batch, injection=Injection(bank, torch.tensor(chosen)))
    for number, (states, row) in enumerate(zip(together, rows, strict=True)):
        alone = hidden_of(backbone, bank[chosen[number]], row)
        torch.testing.assert_close(states[: len(alone)], alone, rtol=1e-4, atol=5e-5)


def test_gradients_of_rows_without_padding_are_those_of_rows_alone():
    backbone = tiny_backbone("bert").eval()
    encoders = [built(backbone), built(backbone)]
    rows = [row_of(backbone, TEXTS[number % 3]) for number in range(6)]
    numbers = torch.tensor([0, 1, 1, 0, 1, 0])

    def gradients():
        found = [parameter.grad.clone() for encoder in encoders for parameter in encoder.parameters()]
        for encoder in encoders:
            encoder.zero_grad()
        return found

    batch = batch_of(backbone, rows)
    states = backbone(**batch, injection=Injection([encoder() for encoder in encoders], numbers))
    (states * batch["attention_mask"][:, :, None]).square().sum().backward()
    together = gradients()
    for number, row in zip(numbers.tolist(), rows, strict=True):
        backbone(**batch_of(backbone, [row]), injection=Injection([encoders[number]()])).square().sum().backward()
    for one, other in zip(together, gradients(), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-3)
        assert other.abs().max() > 0.1


def test_texts_share_the_layers_below_a_modulation():
    backbone = tiny_backbone("bert").eval()
    bank = [Prompt(modulations={layer: Modulation(torch.randn(32), torch.randn(32))}) for layer in (1, 2)]
    assert [backbone.first_layer([prompt]) for prompt in bank] == [1, 2]
    rows = [row_of(backbone, TEXTS[number // 3]) for number in range(6)]
    injection = Injection(bank, torch.tensor([0, 1, 0, 1, 1, 0]))
    batch = batch_of(backbone, rows)
    real = batch["attention_mask"].bool()
    with torch.no_grad():
        shared, plain = (backbone(**batch, injection=injection, share=share) for share in (True, False))
    torch.testing.assert_close(shared[real], plain[real], rtol=1e-4, atol=2e-5)


def test_shapes_are_known_without_numbers():
    blueprint = Blueprint(tiny_backbone("electra"))
    with torch.device("meta"):
        prompt = fold(SSF().build(blueprint))
    assert {n: (len(one.scale), len(one.shift)) for n, one in prompt.modulations.items()} == dict.fromkeys(
        (0, 1, 2), (32, 32)
    )


class TestComposition:
    def test_a_mean(self, backbone):
        one, other = built(backbone)(), SSF().build(backbone)()
        found = average([one, other], [3, 1])
        torch.testing.assert_close(found.modulations[1].scale, 0.75 * one.modulations[1].scale)
        torch.testing.assert_close(found.modulations[2].shift, 0.75 * one.modulations[2].shift)

    def test_of_prompts_that_modulate_other_layers(self, backbone):
        with pytest.raises(MethodError, match="modulate different layers"):
            average([built(backbone)(), Prompt()])

    def test_a_stack_has_one(self, backbone):
        one, prefix = built(backbone)(), PTuningV2(prompt_length=2).build(backbone)()
        found = stack([prefix, one])
        assert found.length == 2
        assert torch.equal(found.modulations[0].scale, one.modulations[0].scale)
        with pytest.raises(MethodError, match="several of these prompts change what layer 0 is given"):
            stack([one, one])

    def test_parts_of_a_method(self, backbone):
        with pytest.raises(MethodError, match=r"method\.parts: several .* change what layer 0"):
            Combined(parts=(SSF(), SSF())).build(backbone)


class TestAnotherPrompt:
    def test_of_its_own_kind(self, backbone):
        given, encoder = built(backbone), SSF().build(backbone)
        encoder.start_from(fold(given))
        assert torch.equal(encoder.scale, given.scale)
        assert torch.equal(encoder.shift, given.shift)

    def test_of_a_combination(self, backbone):
        method = Combined(parts=(PTuningV2(prompt_length=2), SSF()))
        given, encoder = strong(method.build(backbone)), method.build(backbone)
        encoder.start_from(fold(given))
        for one, other in zip(encoder.parameters(), given.parameters(), strict=True):
            assert torch.equal(one, other)

    def test_of_another_kind(self, backbone):
        with pytest.raises(MethodError, match="of their own kind only"):
            SSF().build(backbone).start_from(fold(PTuningV2(prompt_length=2).build(backbone)))

    def test_of_another_width(self, backbone):
        wide = Prompt(modulations={0: Modulation(torch.zeros(7), torch.zeros(7))})
        with pytest.raises(MethodError, match="modulates 7 units at layer 0 does not fit"):
            SSF().build(backbone).start_from(wide)


class TestArtifacts:
    def artifact(self, tmp_path):
        train_tiny("classification", "ssf").save(tmp_path / "a")
        return tmp_path / "a"

    def test_what_is_in_the_file(self):
        artifact = load_artifact(tiny_artifact("ner", "modulated"))
        assert sorted(artifact.prompt.modulations) == [0, 1, 2]
        assert artifact.prompt.length == 2

    @pytest.mark.parametrize(
        ("name", "message"),
        [("modulation/1/shift", "scale and shift at layer 1 do not match"), ("modulation/01/scale", "no number of a")],
    )
    def test_tensors_that_do_not_belong_together(self, tmp_path, name, message):
        def change(tensors):
            if name in tensors:
                del tensors[name]
            else:
                tensors[name] = torch.zeros(32)

        folder = self.artifact(tmp_path)
        change_tensors(folder, change)
        with pytest.raises(ArtifactError, match=message):
            load_artifact(folder)

    def test_no_other_format_knows_them(self, tmp_path):
        with pytest.raises(ArtifactError, match="modulates hidden states"):
            check_leaves(load_artifact(self.artifact(tmp_path)))

    def test_tasks_share_a_pass(self):
        backbone = tiny_backbone()
        folders = {"a": tiny_artifact("ner", "modulated"), "b": tiny_artifact("ner", "ssf")}
        engine = fw.Engine(backbone, {name: fw.load(folder).artifact for name, folder in folders.items()})
        item = {"text": "Anna Smith visited London ."}
        found = engine.predict([("a", item), ("b", item), ("a", item)])
        alone = [fw.load(folders[name], backbone=backbone).predict([item])[0] for name in "aba"]
        assert [one["entities"] for one in found] == [one["entities"] for one in alone]


def test_images_are_not_modulated():
    backbone = tiny_backbone("vit")
    with pytest.raises(BackboneError, match="reads images, whose hidden states are not modulated"):
        backbone.encode_images(torch.zeros(1, 3, 32, 32), Injection([built(backbone)()]))
