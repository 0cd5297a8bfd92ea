"""What a language model says in the template's gap is what it would say without us, whatever prompt is read."""

from __future__ import annotations

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoModelForMaskedLM

import foreword as fw
from foreword.artifacts.format import load_artifact
from foreword.backbones import FAMILIES, load_backbone
from foreword.data.batching import collate
from foreword.data.records import Record
from foreword.errors import ArtifactError, MethodError
from foreword.heads import LearnedVerbalizerHead, VerbalizerHead, class_vectors
from foreword.inference.encoding import encode_examples
from foreword.inference.forward import row_logits
from foreword.injection import Anchor, InputPrompt, Prompt
from foreword.methods import FoldedPrompt
from foreword.model import PromptedModel, head_logits
from tiny import tiny_backbone
from tiny_artifacts import answers_of, records, tiny_artifact, train_tiny

SPEAKING = sorted(name for name, one in FAMILIES.items() if one.project and one.kind in ("encoder", "decoder"))
CLOSE = {"rtol": 1e-5, "atol": 1e-6}
"""Models are in float64 here, but some do parts of their work in float32 all the same."""
WORDS = {"bad": "boring", "good": "wonderful", "so": "cheap"}
TEXTS = ["Anna has never seen London", "it", "my sister would gladly recommend the good movie"]


PLAIN_HEADS = {
    "bert": lambda model: model.cls,
    "albert": lambda model: model.predictions,
    "roberta": lambda model: model.lm_head,
    "gpt2": lambda model: model.lm_head,
    "llama": lambda model: model.lm_head,
}
"""From hidden states of a whole text to logits, as transformers itself does it."""


@pytest.fixture(params=SPEAKING)
def family(request):
    """Every family with a vocabulary head on a single stack."""
    return request.param


@pytest.fixture(scope="module")
def artifacts(tmp_path_factory):
    """A backbone with its language model, and a folder of artifacts: two made on it, two on its trunk alone."""
    folder, spoken = tmp_path_factory.mktemp("mixed"), tiny_backbone("bert", language_model=True)
    trunk = load_backbone(spoken.name)
    assert (trunk.identity.weights, trunk.identity.language_model) == (spoken.identity.weights, None)
    for head in ("verbalizer", "learned-verbalizer"):
        run = fw.train(
            spoken, fw.PTuningV2(prompt_length=2), task_for("bert", head), **data(), progress=False, epochs=1
        )
        run.save(folder / head)
    for kind in ("classification", "ner"):
        train_tiny(kind, "ptuning-v2", trunk).save(folder / kind)
    return spoken, folder


def task_for(family: str, head: str = "verbalizer", **settings) -> fw.Classification:
    template = "{text} It was {mask}." if FAMILIES[family].kind == "encoder" else "{text} It was"
    return fw.Classification(labels=tuple(WORDS), head=head, template=template, **{"verbalizer": WORDS, **settings})


def model_of(backbone, task, prompt: Prompt | None = None) -> PromptedModel:
    head = task.build_head(backbone.hidden_size, backbone)
    return PromptedModel(backbone, fw.HeadOnly(), head, None if prompt is None else FoldedPrompt(prompt)).eval()


def rows_of(task, backbone):
    items = [Record({"text": text}, "tiny", number) for number, text in enumerate(TEXTS)]
    return encode_examples(task, task.read(items, labelled=False), backbone).rows


def plain_model(backbone):
    """The same checkpoint as transformers itself runs it."""
    kind = AutoModelForMaskedLM if backbone.kind == "encoder" else AutoModelForCausalLM
    return kind.from_pretrained(backbone.name, dtype=backbone.model.dtype, attn_implementation="eager").eval()


def by_hand(backbone, text: str):
    """Ids of a filled template, the place of the answer, and the ids of the words, by other means than ours."""
    tokenizer = backbone.tokenizer
    if backbone.kind == "encoder":
        ids = tokenizer(f"{text} It was{tokenizer.mask_token}.")["input_ids"]
        place = ids.index(tokenizer.mask_token_id)
    else:
        ids = tokenizer(f"{text} It was")["input_ids"]
        place = len(ids) - 1
    known = tokenizer.get_vocab()
    words = [next(known[m + word] for m in ("", "\u0120", "\u2581") if m + word in known) for word in WORDS.values()]
    return ids, place, words


class TestLogits:
    @torch.no_grad()
    def test_are_those_of_the_plain_language_model(self, family):
        """In one padded batch here, and row by row there."""
        backbone = tiny_backbone(family, dtype=torch.float64, language_model=True)
        plain, task = plain_model(backbone), task_for(family)
        model = model_of(backbone, task)
        batch = collate(rows_of(task, backbone), range(3), backbone.tokenizer.pad_token_id)
        logits = model(batch)
        assert logits.dtype == torch.float64
        for row, text in zip(logits, TEXTS, strict=True):
            ids, place, words = by_hand(backbone, text)
            expected = plain(input_ids=torch.tensor([ids])).logits[0, place, words]
            torch.testing.assert_close(row, expected, **CLOSE)

    @torch.no_grad()
    @pytest.mark.parametrize("family", ["bert", "roberta", "gpt2", "llama"])
    def test_with_vectors_among_the_tokens(self, family):
        """Laid out by hand around the mask, as embeddings of the plain model."""
        backbone = tiny_backbone(family, dtype=torch.float64, language_model=True)
        encoder = backbone.kind == "encoder"
        anchors = (Anchor.FRONT, Anchor.FRONT, Anchor.AFTER_FIRST)
        anchors += (Anchor.BEFORE_MASK, Anchor.AFTER_MASK, Anchor.AFTER_MASK) if encoder else ()
        torch.manual_seed(0)
        vectors = torch.randn(len(anchors), backbone.embedding_size, dtype=torch.float64)
        task, plain = task_for(family), plain_model(backbone)
        model = model_of(backbone, task, Prompt(inputs=InputPrompt(vectors, anchors)))
        logits = model(collate(rows_of(task, backbone), range(3), backbone.tokenizer.pad_token_id))
        embed = plain.get_input_embeddings()
        for row, text in zip(logits, TEXTS, strict=True):
            ids, place, words = by_hand(backbone, text)
            text_vectors = embed(torch.tensor(ids))
            if encoder:
                parts = [vectors[:2], text_vectors[:1], vectors[2:3], text_vectors[1:place], vectors[3:4]]
                parts += [text_vectors[place : place + 1], vectors[4:], text_vectors[place + 1 :]]
                place += 4
            else:
                parts, place = [vectors, text_vectors], place + 3
            out = plain(inputs_embeds=torch.cat(parts)[None])
            torch.testing.assert_close(row, out.logits[0, place, words], **CLOSE)

    @torch.no_grad()
    @pytest.mark.parametrize("family", PLAIN_HEADS)
    def test_with_a_deep_prompt(self, family):
        """The hidden states are ours; the whole text goes through the plain model's own head."""
        backbone = tiny_backbone(family, dtype=torch.float64, language_model=True)
        task = task_for(family)
        torch.manual_seed(1)
        head = task.build_head(backbone.hidden_size, backbone)
        model = PromptedModel(backbone, fw.PTuningV2(prompt_length=3, init_scale=1.0), head).double().eval()
        bare = model_of(backbone, task)
        caught = []
        hook = backbone.register_forward_hook(lambda _, __, hidden: caught.append(hidden))
        batch = collate(rows_of(task, backbone), range(3), backbone.tokenizer.pad_token_id)
        logits = model(batch)
        hook.remove()
        assert (logits - bare(batch)).abs().max() > 1e-3
        everywhere = PLAIN_HEADS[family](plain_model(backbone))(caught[0])
        for number, text in enumerate(TEXTS):
            _, place, words = by_hand(backbone, text)
            torch.testing.assert_close(logits[number], everywhere[number, place, words], **CLOSE)

    @torch.no_grad()
    @pytest.mark.parametrize("family", ["bert", "roberta", "gpt2"])
    def test_do_not_depend_on_the_side_of_the_padding(self, family):
        backbone = tiny_backbone(family, dtype=torch.float64, language_model=True)
        task = task_for(family)
        head = task.build_head(backbone.hidden_size, backbone)
        rows, pad = rows_of(task, backbone), backbone.tokenizer.pad_token_id
        longest = max(map(len, rows))
        ids = torch.tensor([[pad] * (longest - len(row)) + row.input_ids for row in rows])
        mask = torch.tensor([[0] * (longest - len(row)) + [1] * len(row) for row in rows])
        left = head_logits(head, backbone, backbone(ids, mask), ids, mask)
        right = model_of(backbone, task)(collate(rows, range(3), pad))
        torch.testing.assert_close(left, right, **CLOSE)


def test_output_embeddings_are_what_the_features_meet(family):
    backbone = tiny_backbone(family, dtype=torch.float64, language_model=True)
    with torch.no_grad():
        features = backbone.vocabulary_features(torch.randn(2, 3, backbone.hidden_size, dtype=torch.float64))
        bias = backbone.vocabulary_logits(torch.zeros_like(features))
        torch.testing.assert_close(
            backbone.vocabulary_logits(features) - bias, features @ backbone.output_embeddings.T, **CLOSE
        )


@pytest.mark.parametrize("family", ["bert", "albert", "gpt2"])
class TestLearned:
    def test_starts_where_the_words_are(self, family):
        """So at first its logits are the language model's own, but for the bias of the words."""
        backbone = tiny_backbone(family, language_model=True)
        task = task_for(family, "learned-verbalizer", dropout=0)
        learned, words = model_of(backbone, task), model_of(backbone, task_for(family))
        ids = words.head.words
        assert torch.equal(learned.head.classes, backbone.output_embeddings[ids])
        batch = collate(rows_of(task, backbone), range(3), backbone.tokenizer.pad_token_id)
        with torch.no_grad():
            bias = backbone.vocabulary_logits(torch.zeros(1, learned.head.classes.shape[1]))[0, ids]
            torch.testing.assert_close(learned(batch) + bias, words(batch), rtol=1e-4, atol=1e-4)

    def test_starts_at_random_for_labels_without_a_word(self, family):
        backbone = tiny_backbone(family, language_model=True)
        torch.manual_seed(0)
        head = task_for(family, "learned-verbalizer", verbalizer={"so": "cheap"}).build_head(0, backbone)
        rows = backbone.output_embeddings
        word = task_for(family).build_head(0, backbone).words[2]
        assert torch.equal(head.classes[2], rows[word])
        assert not torch.equal(head.classes[0], head.classes[1])
        assert all((rows - vector).abs().sum(1).min() > 1e-2 for vector in head.classes[:2])
        none = task_for(family, "learned-verbalizer", verbalizer=None).build_head(0, backbone)
        assert none.classes.shape == (3, rows.shape[1])

    def test_moves_and_the_language_model_does_not(self, family):
        backbone = tiny_backbone(family, language_model=True)
        before = {name: tensor.clone() for name, tensor in backbone.model.state_dict().items()}
        task = task_for(family, "learned-verbalizer")
        start = task.build_head(0, backbone).classes
        run = fw.train(backbone, fw.HeadOnly(), task, **data(), progress=False, epochs=1)
        assert ((run.model.head.classes - start).abs().sum(1) > 0).all()
        assert all(torch.equal(tensor, before[name]) for name, tensor in backbone.model.state_dict().items())
        assert not any(weight.requires_grad for weight in backbone.parameters())
        assert run.manifest().parameters.head == start.numel()


def test_random_vectors_are_as_large_as_words():
    torch.manual_seed(0)
    embeddings = torch.randn(50, 400) * 3
    start = class_vectors([None, 7, None], embeddings)
    assert torch.equal(start[1], embeddings[7])
    assert start[[0, 2]].std().item() == pytest.approx(3, rel=0.1)


def data():
    items = [{"text": text, "label": label} for text, label in zip(TEXTS, WORDS, strict=True)]
    return {"train": items, "dev": items}


METHODS = {"ptuning-v2": fw.PTuningV2(prompt_length=3), "fine-tuning": fw.FineTuning()}


@pytest.mark.parametrize("head", ["verbalizer", "learned-verbalizer"])
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("family", ["roberta", "gpt2"])
def test_saved_and_loaded_it_says_the_same(family, head, method, tmp_path):
    backbone, task = tiny_backbone(family, language_model=True), task_for(family, head)
    run = fw.train(backbone, METHODS[method], task, **data(), progress=False, epochs=1, batch_size=2)
    run.save(tmp_path / "artifact")
    predictor = fw.load(tmp_path / "artifact")
    rows = rows_of(predictor.task, predictor.backbone)
    for ours, theirs in zip(row_logits(run.model, rows), row_logits(predictor.model, rows), strict=True):
        assert torch.equal(ours, theirs)
    names = load_file(tmp_path / "artifact" / "prompt.safetensors").keys()
    assert [name for name in names if name.startswith("head/")] == ["head/classes"] * (head == "learned-verbalizer")
    assert run.manifest().parameters.head == (0 if head == "verbalizer" else run.model.head.classes.numel())


def test_fine_tuning_tunes_the_language_models_head_too(tmp_path):
    backbone = tiny_backbone("bert", language_model=True)
    transform = backbone.model.cls.predictions.transform.dense.weight
    before = transform.detach().clone()
    run = fw.train(backbone, fw.FineTuning(), task_for("bert"), **data(), progress=False, epochs=1)
    assert not torch.equal(transform, before)
    run.save(tmp_path / "artifact")
    assert torch.equal(load_file(tmp_path / "artifact" / "backbone.safetensors")[_TRANSFORM], transform)
    trunk = load_backbone(backbone.name)
    with pytest.raises(ArtifactError, match="language model"):
        fw.load(tmp_path / "artifact", trunk)


_TRANSFORM = "cls.predictions.transform.dense.weight"


def test_nothing_to_train_is_refused():
    backbone = tiny_backbone("bert", language_model=True)
    with pytest.raises(MethodError, match=r"nothing is there to train: method 'head-only'.*another task\.head"):
        fw.train(backbone, fw.HeadOnly(), task_for("bert"), **data(), progress=False, epochs=1)


class TestOneBackboneForAll:
    """Loaded with its language model, it serves heads that read the vocabulary and heads that do not."""

    def test_rows_of_a_mixed_batch_are_those_alone(self, artifacts):
        spoken, folder = artifacts
        loaded = {path.name: load_artifact(path) for path in sorted(folder.iterdir())}
        inputs = [
            (name, item)
            for number in range(3)
            for name in loaded
            for item in [records("ner", labelled=False)[number] if name == "ner" else {"text": TEXTS[number]}]
        ]
        mixed = fw.Engine(spoken, loaded).predict(inputs)
        for name in ("verbalizer", "learned-verbalizer", "classification"):
            alone = fw.load(folder / name, spoken).predict([item for task, item in inputs if task == name])
            together = [answer for answer in mixed if answer["task"] == name]
            for one, other in zip(together, alone, strict=True):
                assert one["probabilities"] == pytest.approx(other["probabilities"], abs=2e-6)
                assert one["label"] == other["label"]

    def test_a_trunk_alone_is_refused_for_words(self, artifacts):
        spoken, folder = artifacts
        trunk = load_backbone(spoken.name)
        with pytest.raises(ArtifactError, match=r"verbalizer: its head reads a vocabulary.*language_model=True"):
            fw.load(folder / "verbalizer", trunk)
        assert fw.load(folder / "classification", trunk).predict([{"text": "it"}])

    def test_another_vocabulary_head_is_refused(self, artifacts):
        spoken, folder = artifacts
        changed = load_backbone(spoken.name, language_model=True)
        with torch.no_grad():
            changed.model.cls.predictions.transform.dense.bias += 1
        with pytest.raises(ArtifactError, match="differs in language_model"):
            fw.load(folder / "verbalizer", changed)
        assert fw.load(folder / "classification", changed).predict([{"text": "it"}])

    def test_the_predictor_loads_the_language_model_by_itself(self, artifacts):
        spoken, folder = artifacts
        predictor = fw.load(folder / "verbalizer")
        assert predictor.backbone.language_model
        assert answers_of(predictor) == answers_of(fw.load(folder / "verbalizer", spoken))


def test_artifacts_of_pooled_heads_remain_as_they_were():
    assert load_artifact(tiny_artifact()).manifest.backbone.language_model is None


def test_heads_pick_and_compare():
    head = VerbalizerHead([2, 0])
    assert torch.equal(head(torch.tensor([[5.0, 6.0, 7.0]]), torch.ones(1, 1)), torch.tensor([[7.0, 5.0]]))
    assert dict(head.state_dict()) == {}
    learned = LearnedVerbalizerHead(torch.tensor([[1.0, 2.0], [0.0, -1.0]]), dropout=0)
    assert learned(torch.tensor([[3.0, 4.0]]), torch.ones(1, 1)).tolist() == [[11.0, -4.0]]
