"""Facts as cloze questions: which words may be answered, what is left out, and prompts that learn."""

from __future__ import annotations

import json
import math

import pytest
import torch
from pydantic import ValidationError

import foreword as fw
from foreword.artifacts.format import load_artifact
from foreword.cli.main import main
from foreword.data.examples import TextExample
from foreword.data.records import Record
from foreword.data.sources import Source
from foreword.errors import BackboneError, DataError, TaskError
from tiny import (
    tiny_backbone,
    tiny_backbone_folder,
    tiny_bert_tokenizer,
    tiny_gpt2_tokenizer,
    tiny_roberta_tokenizer,
    tiny_sentencepiece_tokenizer,
)

TOKENIZERS = pytest.mark.parametrize(
    "tokenizer", [tiny_bert_tokenizer, tiny_roberta_tokenizer, tiny_sentencepiece_tokenizer]
)
PLACES = {"Anna": "London", "Peter": "Germany", "the old doctor": "London", "a young teacher": "Germany"}
FACTS = [{"sub_label": subject, "obj_label": place} for subject, place in PLACES.items()]


def fact(subject="Anna", place: str | None = "London"):
    return TextExample(id="f1", text=subject, label=place)


class TestRows:
    @TOKENIZERS
    def test_the_subject_stands_in_the_template(self, tokenizer):
        tokens, task = tokenizer(), fw.Probing(labels=("Germany", "London"), template="{subject} visited {mask}.")
        (row,) = task.encode(fact("my sister "), tokens, 64).rows
        assert row.input_ids == tokens(f"my sister visited{tokens.mask_token}.")["input_ids"]
        assert row.targets == {"label": 1}
        assert task.encode(fact(place=None), tokens, 64).rows[0].targets == {}

    def test_a_decoder_answers_with_what_comes_next(self):
        tokens, task = tiny_gpt2_tokenizer(), fw.Probing(labels=("London",), template="{subject} visited")
        assert task.encode(fact(), tokens, 64).rows[0].input_ids == tokens("Anna visited")["input_ids"]

    def test_by_default_there_is_the_mask_and_the_subject(self):
        tokens = tiny_bert_tokenizer()
        (row,) = fw.Probing(labels=("London",)).encode(fact(), tokens, 64).rows
        assert row.input_ids == tokens("[MASK] Anna")["input_ids"]

    @pytest.mark.parametrize(
        ("template", "says"),
        [
            ("was born in {mask}", "expected {subject} where the subject goes"),
            ("{subject} {text} {mask}", "'{text}' is not one of {subject}, {mask}"),
            ("{subject} {mask} {mask}", "'{mask}' comes twice"),
        ],
    )
    def test_what_is_no_template(self, template, says):
        with pytest.raises(ValidationError) as caught:
            fw.Probing(template=template)
        assert says in str(caught.value)


class TestWords:
    @TOKENIZERS
    def test_every_word_of_the_vocabulary_is_one_token_and_stands_for_it(self, tokenizer):
        family = {"tiny_bert_tokenizer": "bert", "tiny_roberta_tokenizer": "roberta"}.get(tokenizer.__name__, "albert")
        backbone = tiny_backbone(family, language_model=True)
        tokens, task = backbone.tokenizer, fw.Probing(template="{subject} visited {mask}.").with_vocabulary(backbone)
        head = task.build_head(32, backbone)
        assert len(task.labels) == len(set(head.words.tolist())) > 50
        assert not set(head.words.tolist()) & set(tokens.all_special_ids)
        for word, token in list(zip(task.labels, head.words.tolist(), strict=True))[::7]:
            ids = tokens(f"Anna visited {word}.")["input_ids"]
            assert ids.count(token) == 1 or word in ("Anna", "anna", "visited", ".")
            assert ids[: ids.index(token)] == tokens("Anna visited")["input_ids"][: ids.index(token)]
        assert {"London", "london"} & set(task.labels)
        # What no word is: a piece of one, or a token that another spelling gives.
        assert not any(word.startswith("##") or word != word.strip() for word in task.labels)

    def test_a_word_of_the_data_is_found_however_it_is_written(self):
        backbone = tiny_backbone(language_model=True)  # of lower case
        task = fw.Probing(labels=("London", "LONDON", "Germany")).with_vocabulary(backbone)
        assert task.labels == ("london", "germany")
        (row,) = task.encode(fact(place="Germany"), backbone.tokenizer, 64).rows
        assert row.targets == {"label": 1}

    def test_a_file_of_words(self, tmp_path):
        path = tmp_path / "words.txt"
        path.write_text("London\n\n Germany \nbookish\n")
        backbone = tiny_backbone(language_model=True)
        with pytest.raises(TaskError, match=r"words\.txt: the word 'bookish' is not one token in its place but 'book'"):
            fw.Probing(vocabulary=str(path)).with_vocabulary(backbone)
        task = fw.Probing(vocabulary=str(path), unknown_words="skip").with_vocabulary(backbone)
        assert (task.labels, task.vocabulary) == (("london", "germany"), None)  # an artifact needs no file
        path.write_text("bookish\n")
        with pytest.raises(TaskError, match="no word in it is one token of"):
            fw.Probing(vocabulary=str(path), unknown_words="skip").with_vocabulary(backbone)
        with pytest.raises(DataError, match="no such file"):
            fw.Probing(vocabulary=str(tmp_path / "none.txt")).with_vocabulary(backbone)

    def test_words_that_are_listed_must_be_there(self):
        backbone = tiny_backbone(language_model=True)
        with pytest.raises(TaskError, match=r"task\.labels: the word 'bookish' is not one token"):
            fw.Probing(labels=("bookish",), unknown_words="skip").with_vocabulary(backbone)
        with pytest.raises(TaskError, match=r"task\.labels: the word 'bookish' is not one token"):
            fw.Probing(labels=("bookish",)).build_head(32, backbone)
        with pytest.raises(ValidationError, match=r"leave it out where task\.labels lists the words"):
            fw.Probing(labels=("a",), vocabulary="words.txt")

    @pytest.mark.parametrize(
        ("place", "says"),
        [
            ("Peter", "is not among the words that may be answered"),
            ("bookish", "is not one token in its place but 'book' + '##is' + '##h'"),
            ("\u6f22", "is not in the vocabulary"),
        ],
    )
    def test_an_object_that_cannot_be_answered(self, place, says):
        task = fw.Probing(labels=("london",))
        with pytest.raises(DataError) as caught:
            task.encode(fact(place=place), tiny_bert_tokenizer(), 64)
        assert f"fact f1: its object '{place}' {says}" in str(caught.value)
        assert "task.unknown_words = 'skip'" in str(caught.value)
        skipping = task.model_copy(update={"unknown_words": "skip"})
        encoding = skipping.encode(fact(place=place), tiny_bert_tokenizer(), 64)
        assert (encoding.rows, encoding.note) == ((), "left out, since their object cannot be answered")


class TestAnswers:
    TASK = fw.Probing(labels=("a", "b", "c"))

    def predict(self, logits, place="b"):
        rows = self.TASK.encode(fact(place=place), tiny_bert_tokenizer(), 64).rows
        return self.TASK.decode(fact(place=place), rows, [torch.tensor(logits)])

    def test_words_by_rank(self):
        prediction = self.predict([1.0, 2.0, 4.0])
        total = sum(map(math.exp, (1, 2, 4)))
        assert [word for word, _ in prediction.words] == ["c", "b", "a"]
        assert [share for _, share in prediction.words] == pytest.approx([math.exp(x) / total for x in (4, 2, 1)])
        assert prediction.rank == 2
        assert self.TASK.to_json(fact(), prediction) == {
            "id": "f1",
            "word": "c",
            "probability": round(math.exp(4) / total, 6),
        }
        assert [one["word"] for one in self.TASK.candidates(fact(), prediction)] == ["c", "b", "a"]

    def test_a_model_that_says_the_same_of_all_words_does_not_win(self):
        assert [self.predict([1.0, 1.0, 1.0], place).rank for place in "abc"] == [1, 2, 3]

    def test_without_an_object_there_is_no_rank(self):
        assert self.predict([1.0, 2.0, 3.0], None).rank is None

    def test_what_was_left_out_is_not_scored(self):
        gone = self.TASK.decode(fact(), (), ())
        predictions = [self.predict([1.0, 2.0, 0.0]), gone, self.predict([3.0, 2.0, 0.0])]
        scores = self.TASK.score([fact()] * 3, predictions)
        assert scores.values["p_at_1"] == 1 / 2
        assert scores.counts == {"facts": 2}
        with pytest.raises(TaskError, match="none of 1 facts has an object that can be answered"):
            self.TASK.score([fact()], [gone])

    def test_the_loss_is_over_the_words(self):
        logits = torch.randn(2, 3, generator=torch.Generator().manual_seed(0))
        by_hand = [
            -math.log(math.exp(row[t]) / sum(math.exp(x) for x in row)) for row, t in zip(logits, (2, 0), strict=True)
        ]
        assert self.TASK.loss(logits, {"label": torch.tensor([2, 0])}).item() == pytest.approx(sum(by_hand) / 2)


OTHERS = ("it", "would", "movie", "letter")
MASKED, NEXT = "{mask} {subject}", "{subject} visited"
LEARNERS = [
    ("bert", MASKED, fw.PTuning(template=(3, "mask", 3, "text", 3))),
    ("bert", MASKED, fw.LayerDeltas(prompt_length=6, placement="before-last")),
    ("bert", MASKED, fw.PromptTuning(prompt_length=6, placement="after-first")),
    ("roberta", "{subject} visited {mask}.", fw.PTuning(template=(3, "text", 3, "mask", 3))),
    ("gpt2", NEXT, fw.PTuning(template=(6, "text"))),
    ("gpt2", NEXT, fw.LayerDeltas(prompt_length=6)),
    ("gpt2", NEXT, fw.PTuningV2(prompt_length=6)),
]


@pytest.mark.parametrize(("family", "template", "method"), LEARNERS, ids=lambda value: getattr(value, "name", value))
def test_a_prompt_learns_made_up_facts(family, template, method):
    """To a random model, with nothing trained but the prompt."""
    backbone = tiny_backbone(family, language_model=True)
    before = {name: tensor.clone() for name, tensor in backbone.model.state_dict().items()}
    options = {"train": FACTS, "dev": FACTS, "progress": False, "batch_size": 4, "learning_rate": 3e-2, "epochs": 40}
    task = fw.Probing(template=template, labels=("Germany", "London", *OTHERS))
    run = fw.train(backbone, method, task, **options)
    first, *_, last = run.outcome.progress.evaluations
    assert last["train_loss"] < first["train_loss"] * 2 / 3
    assert run.outcome.scores.values["p_at_1"] >= first["p_at_1"] + 0.25
    assert {name.partition(".")[0] for name, _ in run.model.trainable()} == {"prompt"}
    assert all(torch.equal(tensor, before[name]) for name, tensor in backbone.model.state_dict().items())


class TestRuns:
    def test_facts_that_are_left_out_are_counted(self):
        facts = [*FACTS, {"sub_label": "Anna", "obj_label": "New York"}]
        options = {"train": facts, "dev": facts, "progress": False, "epochs": 1}
        backbone, task = tiny_backbone(language_model=True), fw.Probing(unknown_words="skip")
        run = fw.train(backbone, fw.PTuning(template=(1, "mask", 1, "text", 1)), task, **options)
        assert run.outcome.scores.counts == {"facts": 4}
        assert "dev: 1 of 5 examples left out, since their object cannot be answered" in run.warnings
        with pytest.raises(DataError, match="fact 4: its object 'New York' is not one token"):
            fw.train(backbone, fw.PTuning(), fw.Probing(), **options)
        with pytest.raises(DataError, match="no train examples are left: all 1 are left out"):
            fw.train(backbone, fw.PTuning(), task, **options | {"train": facts[4:]})

    def test_without_a_language_model(self):
        options = {"train": FACTS, "dev": FACTS, "progress": False}
        with pytest.raises(BackboneError, match=r"task\.type = 'probing' needs its language model"):
            fw.train(tiny_backbone(), fw.PTuning(), fw.Probing(), **options)
        with pytest.raises(TaskError, match=r"task\.template: .* no mask token"):
            fw.train(tiny_backbone("gpt2", language_model=True), fw.PTuning(), fw.Probing(), **options)

    def test_missing_fields_are_named(self):
        with pytest.raises(DataError, match=r"a\.jsonl:3: field 'obj_label': missing"):
            fw.Probing().read([Record({"sub_label": "Anna"}, "a.jsonl", 3)], labelled=True)
        (example,) = fw.Probing(columns={"subject": "s"}).read([Record({"s": "Anna"}, "a.jsonl", 3)], labelled=False)
        assert example == TextExample(id="0", text="Anna")

    def test_from_a_recipe_to_answers(self, tmp_path, capsys):
        backbone = tiny_backbone_folder("bert", tmp_path / "bert", language_model=True)
        (tmp_path / "facts.jsonl").write_text("".join(json.dumps(one) + "\n" for one in FACTS))
        (tmp_path / "words.txt").write_text("London\nGermany\nbookish\n")
        (tmp_path / "p.toml").write_text(
            f'[backbone]\nname = "{backbone}"\nlanguage_model = true\n'
            '[task]\ntype = "probing"\nvocabulary = "words.txt"\nunknown_words = "skip"\n'
            '[data]\ntrain = "facts.jsonl"\ndev = "facts.jsonl"\n'
            '[method]\ntype = "p-tuning"\ntemplate = [1, "mask", 1, "text", 1]\n[training]\nepochs = 1\n'
        )
        run, facts = tmp_path / "run", tmp_path / "facts.jsonl"
        assert main(["train", str(tmp_path / "p.toml"), "--output", str(run)]) == 0
        (tmp_path / "words.txt").unlink()
        found = load_artifact(run)
        assert found.task.labels == ("london", "germany")
        assert found.manifest.recipe["task"]["vocabulary"] == "words.txt"  # where it lay is nobody's business
        assert found.head == {}
        capsys.readouterr()
        assert main(["evaluate", str(run), "--data", str(facts), "--json"]) == 0
        assert json.loads(capsys.readouterr().out)["values"] == found.manifest.metrics.values
        assert main(["predict", str(run), "--input", str(facts), "--candidates", "5"]) == 0
        answers = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
        assert [len(answer["candidates"]) for answer in answers] == [2] * 4
        assert all(answer["candidates"][0]["word"] == answer["word"] for answer in answers)

    def test_a_whole_vocabulary_is_told_in_short(self, tmp_path, capsys):
        backbone = tiny_backbone(language_model=True)
        options = {"train": FACTS, "dev": FACTS, "progress": False, "epochs": 1}
        run = fw.train(backbone, fw.PTuning(template=(1, "mask", 1, "text", 1)), fw.Probing(), **options)
        run.save(tmp_path / "a")
        more = f", and {len(run.outcome.task.labels) - 20} more"
        assert main(["inspect", str(tmp_path / "a")]) == 0
        assert more in capsys.readouterr().out
        assert more in (tmp_path / "a" / "README.md").read_text()
        assert fw.load(tmp_path / "a", backbone).evaluate(Source.of(FACTS)).values == run.outcome.scores.values
