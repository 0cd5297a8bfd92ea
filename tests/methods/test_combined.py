"""Several methods in one model do together what each does alone."""

from __future__ import annotations

import pytest
import torch
from pydantic import ValidationError

import foreword as fw
from foreword.errors import MethodError, RecipeError
from foreword.injection import Injection
from foreword.methods import (
    IA3,
    METHODS,
    Adapter,
    BitFit,
    Blueprint,
    Combined,
    FineTuning,
    HeadOnly,
    LayerDeltas,
    LoRA,
    PrefixTuning,
    PromptTuning,
    PTuningV2,
    fold,
    stack,
)
from foreword.model import PromptedModel
from foreword.recipes import load_recipe
from foreword.training.loop import parameter_groups
from foreword.training.settings import TrainingSettings
from plain import collated
from tiny import tiny_backbone
from tiny_artifacts import answers_of, train_tiny
from tiny_prompts import padded, rows_of, same
from tiny_runs import TASKS, tiny_data, tiny_trainer

DEEP, INPUT = PTuningV2(prompt_length=3, init_scale=1.0, dropout=0), PromptTuning(prompt_length=2)
CHANGES = {"lora": LoRA(r=2), "ia3": IA3(), "adapter": Adapter(bottleneck=3)}


def model_of(method, backbone, seed=0):
    torch.manual_seed(seed)
    task = TASKS["classification"]
    return PromptedModel(backbone, method, task.build_head(backbone.hidden_size, backbone), labels=task.labels).eval()


def logits(model):
    backbone = model.backbone
    rows = tiny_data(TASKS["classification"], backbone, 6).rows
    return model(collated(backbone, rows))


class TestPrompts:
    def test_stand_one_behind_the_other(self):
        backbone = tiny_backbone()
        torch.manual_seed(3)
        whole = fold(Combined(parts=(DEEP, INPUT, PrefixTuning(prompt_length=4, mlp_hidden=8))).build(backbone))
        torch.manual_seed(3)
        parts = [fold(one.build(backbone)) for one in (DEEP, INPUT, PrefixTuning(prompt_length=4, mlp_hidden=8))]
        assert whole.length == 7
        for site in backbone.sites:
            assert torch.equal(whole.prefix[site].key[:, :3], parts[0].prefix[site].key)
            assert torch.equal(whole.prefix[site].value[:, 3:], parts[2].prefix[site].value)
        assert torch.equal(whole.inputs.vectors, parts[1].inputs.vectors)

    def test_are_read_as_their_stack(self):
        backbone = tiny_backbone("bert", dtype=torch.float64)
        encoder = Combined(parts=(DEEP, LayerDeltas(prompt_length=2))).build(backbone).double()
        prompts = [fold(part) for part in encoder.parts.values()]
        inputs = padded(backbone)
        found, expected = (
            rows_of(backbone(*inputs, Injection([prompt])), inputs[1]) for prompt in (encoder(), stack(prompts))
        )
        same(found, expected)
        alone = rows_of(backbone(*inputs, Injection(prompts[:1])), inputs[1])
        assert all((ours - theirs).abs().max() > 1e-3 for ours, theirs in zip(found, alone, strict=True))

    def test_take_the_positions_of_all(self):
        parts = (DEEP, INPUT, PTuningV2(prompt_length=5, shift_positions=True))
        assert Combined(parts=parts).positions_taken == 7

    def test_may_be_none_at_all(self):
        method = Combined(parts=(LoRA(r=2), BitFit()))
        assert method.build(tiny_backbone()) is None
        assert (method.attaches, method.tunes_backbone) == (True, True)

    @pytest.mark.parametrize(
        ("parts", "says"),
        [
            ((DEEP, HeadOnly()), "'head-only' trains nothing that could be combined"),
            ((DEEP, PTuningV2(layers="top-1")), "cover different sites"),
            ((DEEP, PTuningV2(shift_positions=True)), "some of these prompts have shift_positions"),
            ((DEEP, PTuningV2(gate=True)), "a prefix with a gate cannot be combined with another prefix"),
            ((PTuningV2(gate=True), PTuningV2(gate=True)), "a prefix with a gate cannot be combined with another"),
        ],
    )
    def test_that_do_not_fit_together_are_told_before_training(self, parts, says):
        backbone = tiny_backbone()
        for host in (backbone, Blueprint(backbone)):
            with pytest.raises(MethodError, match=rf"method\.parts: .*{says}"):
                Combined(parts=parts).build(host)

    def test_a_gate_beside_vectors(self):
        backbone = tiny_backbone()
        prompt = fold(Combined(parts=(PTuningV2(gate=True), INPUT)).build(backbone))
        assert all(pair.gate is not None for pair in prompt.prefix.values())


class TestChangesOfTheBackbone:
    @pytest.mark.parametrize("change", CHANGES)
    def test_a_change_that_starts_as_none_leaves_the_prompt_alone(self, change):
        """LoRA, IA3 and adapters begin as the identity."""
        backbone = tiny_backbone()
        alone = logits(model_of(DEEP, backbone))
        combined = model_of(Combined(parts=(DEEP, CHANGES[change])), backbone)
        combined.head.load_state_dict(model_of(DEEP, backbone).head.state_dict())
        torch.testing.assert_close(logits(combined), alone, rtol=1e-5, atol=1e-6)

    @pytest.mark.parametrize("change", CHANGES)
    def test_both_do_their_work(self, change):
        backbone = tiny_backbone()
        model = model_of(Combined(parts=(DEEP, CHANGES[change])), backbone)
        with torch.no_grad():
            for parameter in model.attachment.parameters():
                parameter.add_(torch.randn_like(parameter) * 0.5)
        both = logits(model)
        attachment, model.attachment = model.attachment, None
        prompt_alone = logits(model)
        model.attachment, prompt, model.prompt = attachment, model.prompt, None
        change_alone = logits(model)
        model.prompt = prompt
        for other in (prompt_alone, change_alone):
            assert (both - other).abs().max() > 1e-4
        assert torch.equal(logits(model), both)

    @pytest.mark.parametrize(
        "parts", [(DEEP, LoRA(r=2)), (INPUT, Adapter(bottleneck=3)), (DEEP, BitFit()), (LoRA(r=2), FineTuning())]
    )
    def test_training_moves_every_part(self, parts):
        trainer = tiny_trainer(method=Combined(parts=parts), epochs=1, batch_size=8)
        before = {name: p.detach().clone() for name, p in trainer.model.trainable()}
        assert {name.split(".")[0] for name in before} >= {"head"}
        trainer.fit()
        assert [name for name, p in trainer.model.trainable() if torch.equal(p, before[name])] == []

    def test_an_artifact_holds_all_of_it(self, tmp_path):
        run = train_tiny("classification", "combined")
        run.save(tmp_path / "a")
        found = fw.load(tmp_path / "a", tiny_backbone())
        assert found.model.method == run.model.method
        assert found.model.prompt().length == 2
        assert len(found.model.attachment) > 0
        run.model.prompt.parts["0"].prompt.weight.data.zero_()
        assert answers_of(found) == answers_of(fw.load(tmp_path / "a"))


class TestSettings:
    RECIPE = """
        [task]
        type = "classification"
        [data]
        train = "a.jsonl"
        dev = "b.jsonl"
        [method]
        type = "combined"
        {more}
        [[method.parts]]
        type = "ptuning-v2"
        prompt_length = 3
        [[method.parts]]
        type = "lora"
        {wrong}
    """

    def recipe(self, folder, more="", wrong=""):
        path = folder / "mine.toml"
        path.write_text(self.RECIPE.format(more=more, wrong=wrong))
        return load_recipe(path)

    def test_in_a_recipe(self, tmp_path):
        recipe = self.recipe(tmp_path, "learning_rates = [0.03, 0.0005]", "r = 4")
        parts = (PTuningV2(prompt_length=3), LoRA(r=4))
        assert recipe.method == Combined(parts=parts, learning_rates=(0.03, 0.0005))
        table = recipe.to_dict()["method"]
        assert [part["type"] for part in table["parts"]] == ["ptuning-v2", "lora"]
        assert "init_text" not in table["parts"][0]  # TOML has no word for nothing

    def test_there_and_back(self):
        method = Combined(parts=(DEEP, LoRA(targets=("query",)), LayerDeltas()), learning_rates=(1, 2, 3))
        for mode in ("json", "python"):
            assert Combined.model_validate(method.model_dump(mode=mode)) == method

    @pytest.mark.parametrize(
        ("more", "wrong", "says"),
        [
            ("", "rank = 4", "method.parts: part 1: rank: unknown key; there are: r, alpha, dropout, targets"),
            ("", "r = 0", "method.parts: part 1: r: Input should be greater than 0"),
            ("learning_rates = [1e-3]", "", "method: 2 parts need as many learning_rates, not 1"),
            ("", '[[method.parts]]\ntype = "lara"', "method.parts: part 2: type 'lara' is not one of ptuning-v2, "),
            ("", "[[method.parts]]\nr = 3", "method.parts: part 2: type None is not one of ptuning-v2, "),
            ("", '[[method.parts]]\ntype = "combined"', "method.parts: part 2: type 'combined' is not one of "),
        ],
    )
    def test_mistakes_in_a_recipe(self, tmp_path, more, wrong, says):
        with pytest.raises(RecipeError) as caught:
            self.recipe(tmp_path, more, wrong)
        (mistake,) = caught.value.mistakes
        assert mistake.startswith(says)

    @pytest.mark.parametrize(
        "parts", [(), (DEEP,), "ptuning-v2", (DEEP, 5), (DEEP, Combined(parts=(DEEP, INPUT))), (DEEP, {})]
    )
    def test_what_is_no_list_of_methods(self, parts):
        with pytest.raises(ValidationError):
            Combined(parts=parts)

    def test_any_method_of_the_table_can_be_a_part(self, monkeypatch):
        class Toy(HeadOnly):
            name = "toy"

        monkeypatch.setitem(METHODS, "toy", Toy)
        assert isinstance(Combined(parts=[{"type": "toy"}, {"type": "lora"}]).parts[0], Toy)


class TestLearningRates:
    PARTS = (DEEP, INPUT, LoRA(r=2), BitFit())

    def rates(self, method, chosen=None):
        """Part of the model -> rates of its parameters."""
        model = model_of(method, tiny_backbone())
        names = {id(parameter): name for name, parameter in model.trainable()}
        found: dict[str, set[float]] = {}
        for group in parameter_groups(model, TrainingSettings(learning_rate=chosen, head_learning_rate=7.0)):
            for parameter in group["params"]:
                name = names[id(parameter)]
                part = ".".join(name.split(".")[:3]) if name.startswith("prompt") else name.split(".")[0]
                found.setdefault(part, set()).add(group["lr"])
        return found

    def test_of_each_part_by_default(self):
        found = self.rates(Combined(parts=self.PARTS))
        assert found == {
            "prompt.parts.0": {DEEP.default_learning_rate},
            "prompt.parts.1": {INPUT.default_learning_rate},
            "attachment": {LoRA().default_learning_rate},
            "backbone": {BitFit().default_learning_rate},
            "head": {7.0},
        }

    def test_of_each_part_as_chosen(self):
        found = self.rates(Combined(parts=self.PARTS, learning_rates=(1, 2, 3, 4)), chosen=9.0)
        assert found == {
            "prompt.parts.0": {1},
            "prompt.parts.1": {2},
            "attachment": {3},
            "backbone": {4},
            "head": {7.0},
        }

    def test_one_for_all(self):
        found = self.rates(Combined(parts=self.PARTS), chosen=9.0)
        assert all(rates == {7.0 if part == "head" else 9.0} for part, rates in found.items())

    def test_numbers_of_parts_are_those_of_the_settings(self):
        """A part without a prompt in front does not take another's rate."""
        found = self.rates(Combined(parts=(LoRA(r=2), DEEP), learning_rates=(3, 1)))
        assert found == {"prompt.parts.1": {1}, "attachment": {3}, "head": {7.0}}


class TestStartFrom:
    def test_each_part_takes_its_piece(self):
        backbone = tiny_backbone()
        method = Combined(parts=(DEEP, INPUT, PTuningV2(prompt_length=2)))
        torch.manual_seed(1)
        given = fold(method.build(backbone))
        encoder = method.build(backbone)
        encoder.start_from(given)
        found = fold(encoder)
        assert all(torch.equal(found.prefix[site].key, given.prefix[site].key) for site in backbone.sites)
        assert torch.equal(found.inputs.vectors, given.inputs.vectors)

    def test_other_lengths_are_refused(self):
        backbone = tiny_backbone()
        with pytest.raises(MethodError, match="has 3 positions and 0 vectors, its parts together would have 3 and 2"):
            Combined(parts=(DEEP, INPUT)).build(backbone).start_from(fold(DEEP.build(backbone)))
