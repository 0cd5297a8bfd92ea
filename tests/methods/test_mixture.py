"""A mixture of prompts answers with the weighted mean of what its prompts say alone."""

from __future__ import annotations

import shutil
from dataclasses import replace
from itertools import chain, zip_longest
from pathlib import Path

import numpy as np
import pytest
import torch
from pydantic import ValidationError

import foreword as fw
from foreword.artifacts.format import load_artifact
from foreword.backbones.generation import generate
from foreword.cli.main import main
from foreword.data.batching import IGNORED
from foreword.data.records import Record
from foreword.errors import ArtifactError, MethodError, RecipeError
from foreword.exchange import export_prompt
from foreword.inference.engine.forward import Row, read_rows
from foreword.injection import Injection, Mixture, Prompt
from foreword.methods import METHODS, Blueprint, FoldedPrompt, average, fold, stack
from foreword.model import PromptedModel, head_logits, mix
from foreword.recipes import load_recipe
from foreword.studies.parameters import count_parameters
from foreword.training.loop import parameter_groups
from foreword.training.settings import TrainingSettings
from plain import collated
from tiny import tiny_backbone
from tiny_artifacts import answers_of, change_tensors, records, tiny_artifact, train_tiny
from tiny_runs import TASKS, tiny_data, tiny_trainer

INNER = {
    "ptuning-v2": fw.PTuningV2(prompt_length=3, init_scale=1.0),
    "layer-deltas": fw.LayerDeltas(prompt_length=2, placement="after-first"),
    "combined": fw.Combined(parts=(fw.PTuningV2(prompt_length=2, init_scale=1.0), fw.PromptTuning(prompt_length=3))),
}
AXES = {
    "classification": -1,
    "span-classification": -1,
    "multirc": -1,
    "record": -1,
    "ner": -1,
    "qa": 0,
    "srl": -1,
    "regression": None,
    "multi-label": None,
    "multiple-choice": None,
}
"""Along which the logits of one row are of one choice."""
CLOZE = {
    "bert": fw.Classification(
        labels=("no", "yes"), head="verbalizer", template="{text} {mask}.", verbalizer={"no": "cheap", "yes": "good"}
    ),
}


def model_of(method, backbone, task, seed=0):
    """In float64, with weights that differ and deltas that are not zero."""
    torch.manual_seed(seed)
    model = PromptedModel(backbone, method, task.build_head(backbone.hidden_size, backbone), labels=task.labels or ())
    with torch.no_grad():
        for parameter in model.prompt.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.5)
    return model.double().eval()


def probabilities(logits: np.ndarray, axis: int) -> np.ndarray:
    shifted = np.exp(logits - logits.max(axis, keepdims=True))
    return shifted / shifted.sum(axis, keepdims=True)


@torch.no_grad()
def by_hand(model, row, axis: int | None) -> np.ndarray:
    """Log probabilities of one row, ``(C,)`` or ``(T, C)``: each prompt alone, without padding, in numpy.

    Without an axis, numbers that stand by themselves.
    """
    mixture = model.prompt()
    weights = probabilities(model.prompt.log_weights.numpy(), 0)
    total = 0.0
    for weight, prompt in zip(weights, mixture.prompts, strict=True):
        one = collated(model.backbone, [row])
        texts, deep = (one.input_ids, one.attention_mask, one.token_type_ids), model.head.every_layer
        hidden = model.backbone(*texts, Injection([prompt]), every_layer=deep)
        logits = head_logits(model.head, model.backbone, hidden, one.input_ids, one.attention_mask, marks=one.marks)
        total = total + weight * (logits[0].numpy() if axis is None else probabilities(logits[0].numpy(), axis))
    return total if axis is None else np.log(total)


def losses(task: str, rows, answers) -> list[float]:
    """What every target adds to the loss, out of what `by_hand` gave for the rows."""
    found, place = [], 0
    while place < len(rows):
        targets, answer = rows[place].targets, answers[place]
        place += 1
        match task:
            case "classification" | "span-classification":
                found.append(-answer[targets["label"]])
            case "multirc" | "record":
                found.append(-answer[targets["right"]])
            case "ner" | "srl":
                found += [-answer[token, tag] for token, tag in enumerate(targets["tags"]) if tag != IGNORED]
            case "qa":
                found += [-answer[targets["start"], 0], -answer[targets["end"], 1]]
            case "regression":
                found.append((answer[0] - targets["score"]) ** 2)
            case "multi-label":
                signs = 2 * np.array(targets["labels"]) - 1
                found += list(np.log1p(np.exp(-signs * answer)))
            case "multiple-choice":
                scores = [answer[0]]
                while place < len(rows) and rows[place].targets["choice"] == IGNORED:
                    scores.append(answers[place][0])
                    place += 1
                found.append(np.log(np.exp(scores).sum()) - scores[targets["choice"]])
    return found


def examples_of(task, texts):
    return task.read([Record({"text": text}, "tiny", n) for n, text in enumerate(texts)], labelled=False)


class TestLogits:
    @pytest.mark.parametrize("inner", INNER)
    @pytest.mark.parametrize(("task", "axis"), AXES.items())
    def test_are_those_of_each_prompt_alone_averaged(self, task, axis, inner):
        backbone = tiny_backbone("bert", dtype=torch.float64)
        model = model_of(fw.MixtureOfPrompts(of=INNER[inner], count=3), backbone, TASKS[task])
        rows = tiny_data(TASKS[task], backbone, 6).rows
        assert len({len(row) for row in rows}) > 1
        with torch.no_grad():
            found = model(collated(backbone, rows))
        assert len(found) == len(rows)
        for row, logits in zip(rows, found, strict=True):
            text = logits[: len(row)] if logits.dim() == 2 else logits
            np.testing.assert_allclose(text.numpy(), by_hand(model, row, axis), rtol=1e-9, atol=1e-9)
            assert task != "qa" or (logits[len(row) :] == torch.finfo(torch.float64).min).all()
            assert logits.isfinite().all()

    @pytest.mark.parametrize("family", ["roberta", "deberta-v2", "gpt2"])
    def test_of_other_families(self, family):
        backbone = tiny_backbone(family, dtype=torch.float64)
        model = model_of(fw.MixtureOfPrompts(of=INNER["ptuning-v2"], count=2), backbone, TASKS["classification"])
        rows = tiny_data(TASKS["classification"], backbone, 5).rows
        with torch.no_grad():
            found = model(collated(backbone, rows))
        for row, logits in zip(rows, found, strict=True):
            np.testing.assert_allclose(logits.numpy(), by_hand(model, row, -1), rtol=3e-5, atol=3e-5)

    def test_of_a_verbalizer(self):
        backbone, task = tiny_backbone("bert", language_model=True, dtype=torch.float64), CLOZE["bert"]
        model = model_of(fw.MixtureOfPrompts(of=INNER["layer-deltas"], count=3), backbone, task)
        texts = ["Anna visited London", "it", "nobody likes the old doctor"]
        rows = [task.encode(example, backbone.tokenizer, 64).rows[0] for example in examples_of(task, texts)]
        with torch.no_grad():
            found = model(collated(backbone, rows))
        for row, logits in zip(rows, found, strict=True):
            np.testing.assert_allclose(logits.numpy(), by_hand(model, row, -1), rtol=1e-9, atol=1e-9)

    @pytest.mark.parametrize(("task", "axis"), AXES.items())
    def test_of_one_prompt_are_its_own(self, task, axis):
        backbone = tiny_backbone("bert", dtype=torch.float64)
        model = model_of(fw.MixtureOfPrompts(of=INNER["ptuning-v2"], count=1), backbone, TASKS[task])
        alone = PromptedModel(backbone, INNER["ptuning-v2"], model.head, model.prompt.prompts[0]).eval()
        batch = collated(backbone, tiny_data(TASKS[task], backbone, 5).rows)
        with torch.no_grad():
            expected = alone(batch)
            if axis is not None:
                expected = expected.log_softmax(1 if task == "qa" else axis)
            torch.testing.assert_close(model(batch), expected)

    @pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
    def test_padding_stays_harmless_in_any_type(self, dtype):
        logits = torch.randn(4, 5, 2).to(dtype)
        logits[:, 3:] = torch.finfo(dtype).min
        logits.requires_grad_()
        found = mix(logits, torch.tensor([0.25, 0.75]).log(), 1)
        assert found.dtype == torch.float32
        torch.testing.assert_close(found.softmax(1)[:, :3].sum(1), torch.ones(2, 2))
        assert found.softmax(1)[:, 3:].max() == 0
        torch.nn.functional.cross_entropy(found, torch.tensor([[0, 1], [2, 0]])).backward()
        assert logits.grad.isfinite().all()
        assert logits.grad[:, 3:].abs().max() == 0

    def test_in_bfloat16(self):
        backbone = tiny_backbone()
        model = model_of(fw.MixtureOfPrompts(of=INNER["ptuning-v2"]), backbone, TASKS["qa"]).float()
        batch = collated(backbone, tiny_data(TASKS["qa"], backbone, 5).rows)
        with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16):
            rough = model(batch)
        real = batch.attention_mask.bool()
        torch.testing.assert_close(rough[real], model(batch)[real], rtol=0.05, atol=0.2)


class TestTraining:
    @pytest.mark.parametrize("task", [name for name in TASKS if not TASKS[name].needs_language_model])
    def test_the_loss_is_of_the_mean(self, task):
        backbone = tiny_backbone("bert", dtype=torch.float64)
        model = model_of(fw.MixtureOfPrompts(of=INNER["layer-deltas"], count=2), backbone, TASKS[task])
        rows = tiny_data(TASKS[task], backbone, 4).rows
        batch = collated(backbone, rows)
        found = TASKS[task].loss(model(batch), batch.targets)
        expected = float(np.mean(losses(task, rows, [by_hand(model, row, AXES[task]) for row in rows])))
        assert float(found.detach()) == pytest.approx(expected, rel=1e-5)  # losses are computed in float32

    @pytest.mark.parametrize("inner", INNER)
    @pytest.mark.parametrize("task", TASKS)
    def test_a_gradient_reaches_every_prompt_and_the_weights(self, task, inner):
        backbone = tiny_backbone(language_model=TASKS[task].needs_language_model)
        model = model_of(fw.MixtureOfPrompts(of=INNER[inner], count=3), backbone, TASKS[task]).float()
        batch = collated(backbone, tiny_data(TASKS[task], backbone, 4).rows)
        TASKS[task].loss(model(batch), batch.targets).backward()
        for name, parameter in model.prompt.named_parameters():
            assert parameter.grad is not None, name
            assert parameter.grad.isfinite().all(), name
            assert parameter.grad.abs().max() > 0, name
        assert model.prompt.log_weights.grad.sum().abs() < 1e-6  # weights that add up to 1 have no scale
        assert all(parameter.grad is None for parameter in backbone.parameters())

    def test_prompts_start_apart_and_the_weights_alike(self):
        mixture = fold(fw.MixtureOfPrompts(of=INNER["layer-deltas"], count=4).build(tiny_backbone()))
        first, *others = mixture.prompts
        assert len(others) == 3
        assert all((first.inputs.vectors - other.inputs.vectors).abs().max() > 1e-3 for other in others)
        torch.testing.assert_close(mixture.log_weights.exp(), torch.full((4,), 0.25))

    def test_prompts_are_drawn_one_after_another(self):
        backbone, inner = tiny_backbone(), INNER["ptuning-v2"]
        torch.manual_seed(4)
        mixture = fold(fw.MixtureOfPrompts(of=inner, count=2).build(backbone))
        torch.manual_seed(4)
        for prompt in mixture.prompts:
            alone = fold(inner.build(backbone))
            assert all(torch.equal(prompt.prefix[site].key, alone.prefix[site].key) for site in backbone.sites)

    def test_it_learns(self):
        trainer = tiny_trainer(method=fw.MixtureOfPrompts(of=INNER["ptuning-v2"], count=2), epochs=4, batch_size=8)
        before = trainer.model.prompt.log_weights.detach().clone()
        losses = []
        for _ in range(2):
            batch = collated(trainer.model.backbone, trainer.train.rows)
            with torch.no_grad():
                losses.append(float(trainer.task.loss(trainer.model(batch), batch.targets)))
            if len(losses) == 1:
                trainer.fit()
        assert losses[1] < losses[0]
        assert not torch.equal(trainer.model.prompt.log_weights, before)

    def test_learning_rates_are_those_of_the_method_inside(self):
        inner = fw.Combined(parts=(INNER["ptuning-v2"], fw.PromptTuning()), learning_rates=(0.5, 0.25))
        model = model_of(fw.MixtureOfPrompts(of=inner, count=2), tiny_backbone(), TASKS["classification"])
        names = {id(parameter): name for name, parameter in model.trainable()}
        settings = TrainingSettings(learning_rate=3.0, head_learning_rate=7.0)
        rates = {names[id(p)]: group["lr"] for group in parameter_groups(model, settings) for p in group["params"]}
        for number in (0, 1):
            assert rates[f"prompt.prompts.{number}.parts.0.prompt.weight"] == 0.5
            assert rates[f"prompt.prompts.{number}.parts.1.vectors"] == 0.25
        assert rates["prompt.log_weights"] == 3.0
        inner = fw.PromptTuning()
        assert fw.MixtureOfPrompts(of=inner).default_learning_rate == inner.default_learning_rate

    def test_takes_the_positions_of_one(self):
        assert fw.MixtureOfPrompts(of=fw.PromptTuning(prompt_length=7), count=5).positions_taken == 7

    @pytest.mark.parametrize("inner", INNER)
    def test_is_counted(self, inner):
        backbone = tiny_backbone()
        one = count_parameters(INNER[inner], backbone)
        several = count_parameters(fw.MixtureOfPrompts(of=INNER[inner], count=3), backbone)
        assert several.trained == 3 * one.trained + 3
        assert several.kept == 3 * one.kept + 3


KINDS = {"classification": "mixture", "ner": "ptuning-v2-some-layers", "qa": "mixture-of-prefixes", "srl": "mixture"}
"""Three prompts of two vectors each, one prefix that skips a layer, and two prefixes of three positions."""


class TestMixedBatches:
    @pytest.mark.parametrize(
        "kinds",
        [
            KINDS,
            {"ner": "mixture", "qa": "mixture", "classification": "head-only"},
            {"ner": "mixture-of-prefixes", "classification": "ptuning-v2-gate", "qa": "p-tuning"},
            {"classification": "mixture-of-prefixes"},
            {"regression": "mixture-of-prefixes", "ner": "ptuning-v2", "multi-label": "mixture"},
        ],
    )
    def test_answers_are_those_of_each_task_alone(self, kinds):
        backbone = tiny_backbone()
        turns = zip_longest(*([(task, item) for item in records(task, labelled=False)] for task in kinds))
        inputs = list(chain.from_iterable(turns))
        engine = fw.Engine(backbone, {t: load_artifact(tiny_artifact(t, m)) for t, m in kinds.items()})
        passes = []
        hook = backbone.register_forward_pre_hook(lambda _, args: passes.append(len(args[0])))
        mixed = engine.predict(inputs)
        hook.remove()
        assert passes == [sum(4 * {"mixture": 3, "mixture-of-prefixes": 2}.get(m, 1) for m in kinds.values())]
        assert [answer["task"] for answer in mixed] == [task for task, _ in inputs]
        for task, method in kinds.items():
            alone = fw.load(tiny_artifact(task, method), backbone).predict(records(task, labelled=False))
            ours = [answer for answer in mixed if answer["task"] == task]
            for one, other in zip(ours, alone, strict=True):
                assert flat(one) == pytest.approx(flat(other), abs=3e-6)

    def test_logits_of_a_row_are_the_same_beside_others(self):
        """Stirred models, so that prompts and weights matter; numbers and not answers are compared."""
        backbone = tiny_backbone()
        generator = torch.Generator().manual_seed(3)
        engine = fw.Engine(backbone, {t: stirred(tiny_artifact(t, m), generator) for t, m in KINDS.items()})
        data = {task: tiny_data(TASKS[task], backbone, 5).rows for task in KINDS}
        residents = {
            task: engine.encode(engine.resolve(task), records(task, labelled=False)[0]).parts[0].resident
            for task in KINDS
        }
        rows = [Row(data[task][number], residents[task]) for number in range(5) for task in KINDS]
        with torch.inference_mode():
            together = read_rows(backbone, rows)
            for row, logits in zip(rows, together, strict=True):
                (alone,) = read_rows(backbone, [row])
                torch.testing.assert_close(logits, alone, rtol=1e-4, atol=1e-5)
            other = read_rows(backbone, [Row(data["classification"][0], residents["classification"])] * 2)
        assert torch.equal(*other)

    def test_windows_of_a_text_stay_together(self):
        backbone = tiny_backbone()
        artifacts = {task: load_artifact(tiny_artifact(task, method)) for task, method in KINDS.items()}
        long = {"question": "Who is it?", "context": "Anna Smith visited London . " * 12}
        item = records("classification", labelled=False)[0]
        mixed = fw.Engine(backbone, artifacts).predict([("qa", long), ("classification", item), ("qa", long)])
        (alone,) = fw.load(tiny_artifact("qa", KINDS["qa"]), backbone).predict([long])
        assert flat(mixed[0]) == pytest.approx(flat(alone), abs=3e-6)
        assert flat(mixed[2]) == pytest.approx(flat(alone), abs=3e-6)


def stirred(path, generator):
    """An artifact with other numbers in its prompt and its weights, large enough to see."""
    artifact = load_artifact(path)

    def stir(tensor):
        return tensor + torch.randn(tensor.shape, generator=generator) * 0.5

    prompt = artifact.prompt.map(stir)
    if isinstance(prompt, Mixture):
        prompt = Mixture(prompt.prompts, prompt.log_weights.log_softmax(0))
    return replace(artifact, prompt=prompt)


def flat(answer) -> dict[str, object]:
    """One level of keys, without what a batch adds."""
    if isinstance(answer, dict):
        pairs = [(key, value) for key, value in answer.items() if key not in ("task", "id")]
    elif isinstance(answer, list):
        pairs = [(str(number), value) for number, value in enumerate(answer)]
    else:
        return {"": answer}
    return {f"{key}.{inner}": leaf for key, value in pairs for inner, leaf in flat(value).items()}


def changed(folder: Path, change) -> Path:
    shutil.copytree(tiny_artifact("classification", "mixture"), folder / "a")
    change_tensors(folder / "a", change)
    return folder / "a"


def drop(tensors, start):
    return {name: tensor for name, tensor in tensors.items() if not name.startswith(start)}


def renamed(tensors, old, new):
    return {name.replace(old, new): tensor for name, tensor in tensors.items()}


def fewer(tensors):
    return drop(tensors, "mixture/2/") | {"mixture/log_weights": torch.tensor([0.5, 0.5]).log()}


def longer(tensors):
    more = {"mixture/1/input/vectors": torch.zeros(3, 32), "mixture/1/input/anchors": torch.zeros(3).long()}
    deltas = {name: torch.zeros(3, 32) for name in tensors if name.startswith("mixture/1/input/deltas")}
    return tensors | more | deltas


class TestArtifacts:
    def test_hold_every_prompt_and_the_weights(self, tmp_path):
        run = train_tiny("classification", "mixture", epochs=3)
        run.save(tmp_path / "a")
        mixture, ours = load_artifact(tmp_path / "a").prompt, fold(run.model.prompt)
        assert isinstance(mixture, Mixture)
        assert torch.equal(mixture.log_weights, ours.log_weights)
        assert float(mixture.log_weights.exp().sum()) == pytest.approx(1)
        assert (mixture.log_weights.exp() - 1 / 3).abs().max() > 1e-5
        for found, expected in zip(mixture.prompts, ours.prompts, strict=True):
            assert torch.equal(found.inputs.vectors, expected.inputs.vectors)
            assert found.inputs.anchors == expected.inputs.anchors
            assert all(torch.equal(found.inputs.deltas[n], delta) for n, delta in expected.inputs.deltas.items())
        assert load_artifact(tmp_path / "a").method == run.model.method
        again = fw.load(tmp_path / "a", tiny_backbone())
        assert answers_of(again) == answers_of(fw.load(tmp_path / "a"))

    def test_inspect_says_it(self, capsys):
        path = tiny_artifact("qa", "mixture-of-prefixes")
        capsys.readouterr()
        assert main(["inspect", str(path)]) == 0
        told = " ".join(capsys.readouterr().out.split())
        weights = load_artifact(path).prompt.log_weights.exp().tolist()
        said = ", ".join(f"{weight:.3f}" for weight in weights)
        assert f"a mixture of 2 with weights {said}; each: 3 positions each at encoder.0, encoder.1" in told

    @pytest.mark.parametrize(
        ("change", "says"),
        [
            (lambda t: drop(t, "mixture/1/"), "its mixture has prompts 0, 2, expected 0, 1 and so on"),
            (lambda t: renamed(t, "mixture/2/", "mixture/02/"), "its mixture has prompts 0, 02, 1, expected"),
            (lambda t: drop(t, "mixture/2/"), "'mixture/log_weights' is (3,), expected one number for each of 2"),
            (lambda t: drop(t, "mixture/log_weights"), "'mixture/log_weights' is missing"),
            (lambda t: t | {"mixture/log_weights": torch.zeros(3)}, "do not add up to 1"),
            (lambda t: t | {"mixture/log_weights": torch.full((3,), float("nan"))}, "not finite"),
            (lambda t: t | {"mixture/log_weights": torch.zeros(3, dtype=torch.int64)}, "expected float32 numbers"),
            (lambda t: t | {"mixture/log_weights": torch.zeros(1, 3)}, "'mixture/log_weights' is (1, 3), expected"),
            (lambda t: t | {"mixture/1/input/anchors": torch.zeros(2)}, "mixture/1: 'input/anchors' is torch.float32"),
            (lambda t: t | {"mixture/1/weights": torch.zeros(2)}, "mixture/1: 'weights' is no tensor of"),
            (lambda t: t | {"mixture/1/prefix/encoder.01/key": torch.zeros(2)}, "'encoder.01' is no attention site"),
            (lambda t: drop(t, "mixture/1/input/vectors"), "mixture/1: an input prompt needs both"),
            (lambda t: t | {"mixture/1": torch.zeros(2)}, "mixture/1: '' is no tensor of"),
            (lambda t: t | {"mixture": torch.zeros(2)}, "'mixture' is no tensor of"),
            (lambda t: t | {"input/vectors": torch.zeros(2, 3), "input/anchors": torch.zeros(2).long()}, "besides"),
        ],
    )
    def test_that_are_damaged(self, change, says, tmp_path):
        with pytest.raises(ArtifactError) as caught:
            load_artifact(changed(tmp_path, change))
        assert says in str(caught.value)

    @pytest.mark.parametrize(
        ("change", "says"),
        [
            (fewer, "'mixture/log_weights' is (2,), the backbone wants (3,)"),
            (lambda t: {n: v for n, v in t.items() if "mixture" not in n}, "is missing, the backbone wants (2, 32)"),
            (longer, "'mixture/1/input/vectors' is (3, 32), the backbone wants (2, 32)"),
        ],
    )
    def test_that_do_not_fit_the_backbone(self, change, says, tmp_path):
        artifact = load_artifact(changed(tmp_path, change))
        with pytest.raises(ArtifactError) as caught:
            artifact.check_backbone(tiny_backbone())
        assert says in str(caught.value)

    def test_of_one_prompt_do_not_pass_for_a_mixture(self, tmp_path):
        path = changed(tmp_path, lambda t: {n.replace("mixture/0/", ""): v for n, v in t.items() if "/1/" not in n})
        with pytest.raises(ArtifactError):
            load_artifact(path).check_backbone(tiny_backbone())


class TestRefused:
    @pytest.mark.parametrize(
        ("inner", "says"),
        [
            (fw.LoRA(), "'lora' changes the backbone itself, which all prompts of a mixture share"),
            (fw.FineTuning(), "'fine-tuning' changes the backbone itself"),
            (fw.Combined(parts=(fw.PTuningV2(), fw.LoRA())), "'combined' changes the backbone itself"),
            (fw.MixtureOfPrompts(of=fw.PTuningV2()), "a mixture has no mixture in it: raise count"),
            ({"type": "mixture", "of": {"type": "lora"}}, "type 'mixture' is not one of ptuning-v2, "),
            ({"type": "lara"}, "type 'lara' is not one of ptuning-v2, "),
            ({"type": "lora"}, "'lora' changes the backbone itself"),
            ({"prompt_length": 3}, "type None is not one of ptuning-v2, "),
            ({"type": "ptuning-v2", "length": 3}, "length: unknown key; there are: prompt_length, "),
            ({"type": "combined", "parts": [{"type": "ptuning-v2"}, {"type": "x"}]}, "parts: part 1: type 'x' is not"),
            ("ptuning-v2", "Input should be a valid dictionary or instance of Method"),
        ],
    )
    def test_methods_that_cannot_be_inside(self, inner, says):
        with pytest.raises(ValidationError) as caught:
            fw.MixtureOfPrompts(of=inner)
        (error,) = caught.value.errors()
        assert error["loc"] == ("of",)
        assert says in error["msg"]

    @pytest.mark.parametrize("count", [0, -1, 257, 1.5])
    def test_counts(self, count):
        with pytest.raises(ValidationError):
            fw.MixtureOfPrompts(of=fw.PTuningV2(), count=count)

    def test_a_mixture_in_a_combination(self):
        with pytest.raises(ValidationError, match="Make a mixture 'of' the combination"):
            fw.Combined(parts=(fw.MixtureOfPrompts(of=fw.PTuningV2()), fw.PTuningV2()))
        with pytest.raises(ValidationError, match="part 0: type 'mixture' is not one of"):
            fw.Combined(parts=[{"type": "mixture", "of": {"type": "ptuning-v2"}}, {"type": "lora"}])

    def test_a_method_without_a_prompt(self):
        for host in (tiny_backbone(), Blueprint(tiny_backbone())):
            with pytest.raises(MethodError, match=r"method\.of: 'head-only' makes no prompt"):
                fw.MixtureOfPrompts(of=fw.HeadOnly()).build(host)

    @pytest.mark.parametrize(
        "inner", [fw.WARP(), fw.PromptTuning(prompt_length=2, init="text", init_text="Anna visited London .")]
    )
    def test_prompts_that_would_all_stay_the_same(self, inner):
        with pytest.raises(MethodError, match=f"'{inner.name}' all start from the same numbers"):
            fw.MixtureOfPrompts(of=inner, count=2).build(tiny_backbone())
        assert len(fold(fw.MixtureOfPrompts(of=inner, count=1).build(tiny_backbone())).prompts) == 1

    def test_where_one_prompt_is_wanted(self):
        backbone = tiny_backbone("gpt2", language_model=True)
        mixture = fold(fw.MixtureOfPrompts(of=fw.PTuningV2(prompt_length=2)).build(backbone))
        with pytest.raises(ValueError, match="a row reads one prompt"):
            generate(backbone, torch.ones(1, 3).long(), torch.ones(1, 3).long(), Injection([mixture]))
        for put_together in (stack, average):
            with pytest.raises(MethodError, match="a mixture of 4 prompts"):
                put_together([mixture, Prompt()])

    def test_to_start_from_it_or_from_another(self):
        mixture, prompt = (str(tiny_artifact("classification", name)) for name in ("mixture", "layer-deltas"))
        with pytest.raises(ArtifactError, match="has a mixture of prompts, which no single prompt can start from"):
            train_tiny("ner", "layer-deltas", start_from=mixture)
        with pytest.raises(MethodError, match=r"training\.start_from: the prompts of a mixture cannot all start"):
            train_tiny("ner", "mixture", start_from=prompt)

    @pytest.mark.parametrize("form", ["peft", "google"])
    def test_to_export_it(self, form, tmp_path):
        artifact = load_artifact(tiny_artifact("classification", "mixture"))
        with pytest.raises(ArtifactError, match=r"has a mixture of prompts .'mixture'., which no other format knows"):
            export_prompt(form, artifact, tmp_path / "out", prompt_only=True)

    def test_weights_that_are_not_as_many(self):
        with pytest.raises(ValueError, match="2 prompts, but log weights"):
            Mixture((Prompt(), Prompt()), torch.zeros(3))


class TestSettings:
    RECIPE = """
        [task]
        type = "classification"
        [data]
        train = "a.jsonl"
        dev = "b.jsonl"
        [method]
        type = "mixture"
        count = 3
        [method.of]
        type = "layer-deltas"
        {more}
    """

    def recipe(self, folder, more):
        path = folder / "mine.toml"
        path.write_text(self.RECIPE.format(more=more))
        return load_recipe(path)

    def test_in_a_recipe(self, tmp_path):
        recipe = self.recipe(tmp_path, "prompt_length = 5")
        assert recipe.method == fw.MixtureOfPrompts(of=fw.LayerDeltas(prompt_length=5), count=3)
        table = recipe.to_dict()["method"]
        assert (table["type"], table["of"]["type"], table["of"]["prompt_length"]) == ("mixture", "layer-deltas", 5)
        assert "init_text" not in table["of"]  # TOML has no word for nothing

    def test_mistakes_in_a_recipe(self, tmp_path):
        with pytest.raises(RecipeError) as caught:
            self.recipe(tmp_path, "length = 5")
        (mistake,) = caught.value.mistakes
        assert mistake.startswith("method.of: length: unknown key; there are: prompt_length, ")

    @pytest.mark.parametrize("inner", INNER)
    def test_there_and_back(self, inner):
        method = fw.MixtureOfPrompts(of=INNER[inner], count=7)
        for mode in ("json", "python"):
            assert METHODS["mixture"].model_validate(method.model_dump(mode=mode)) == method


def test_a_folded_mixture_is_moved_with_its_module():
    mixture = fold(fw.MixtureOfPrompts(of=INNER["layer-deltas"], count=2).build(tiny_backbone()))
    found = FoldedPrompt(mixture).double()()
    assert found.log_weights.dtype == torch.float64
    torch.testing.assert_close(found.log_weights, mixture.log_weights.double())
    for ours, theirs in zip(found.prompts, mixture.prompts, strict=True):
        torch.testing.assert_close(ours.inputs.vectors, theirs.inputs.vectors.double())
        assert ours.inputs.anchors == theirs.inputs.anchors
