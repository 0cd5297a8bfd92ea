"""Templates and words: what stands in a row, what of it is cut, and what is refused."""

from __future__ import annotations

import json

import pytest
from pydantic import ValidationError
from tokenizers import processors
from transformers import PreTrainedTokenizerFast

import foreword as fw
from foreword.artifacts.format import load_artifact
from foreword.cli.main import main
from foreword.data.examples import TextExample
from foreword.errors import BackboneError, RecipeError, TaskError
from foreword.recipes import load_recipe
from foreword.tasks.making.cloze import Cloze
from tiny import (
    tiny_backbone,
    tiny_backbone_folder,
    tiny_bert_tokenizer,
    tiny_gpt2_tokenizer,
    tiny_roberta_tokenizer,
    tiny_sentencepiece_tokenizer,
)

MASKED = [tiny_bert_tokenizer, tiny_roberta_tokenizer, tiny_sentencepiece_tokenizer]
TOKENIZERS = pytest.mark.parametrize("tokenizer", MASKED)
LONG = "Anna visited London and my sister. " * 20
WORDS = {"good": "wonderful", "bad": "boring"}


def closed_gpt2() -> PreTrainedTokenizerFast:
    """A decoder's tokenizer that opens and closes every text."""
    made = tiny_gpt2_tokenizer()
    end = made.eos_token
    backend = made.backend_tokenizer.from_str(made.backend_tokenizer.to_str())
    backend.post_processor = processors.TemplateProcessing(single=f"{end} $A {end}", special_tokens=[(end, 0)])
    return PreTrainedTokenizerFast(tokenizer_object=backend, bos_token=end, eos_token=end, unk_token=end)


def task_of(template="{text} It was {mask}.", words=WORDS, **settings):
    return fw.Classification(head="verbalizer", template=template, verbalizer=words, **settings)


def encode(template: str, tokenizer, text: str, pair: str | None = None, max_length: int = 128):
    columns = {} if pair is None else {"columns": {"pair": "pair"}}
    task = task_of(template, **columns)
    encoding = task.encode(TextExample(id="0", text=text, pair=pair), tokenizer, max_length)
    return encoding.rows[0], encoding.note


class TestRows:
    @TOKENIZERS
    def test_the_text_stands_in_the_template(self, tokenizer):
        tokens = tokenizer()
        row, note = encode("Say: {text} It was {mask}.", tokens, "Anna has never seen London")
        expected = tokens(f"Say: Anna has never seen London It was{tokens.mask_token}.")
        assert row.input_ids == expected["input_ids"]
        assert row.token_type_ids == expected.get("token_type_ids")
        assert note is None

    @TOKENIZERS
    def test_a_pair_stands_in_one_segment(self, tokenizer):
        tokens = tokenizer()
        row, _ = encode("{pair}? {mask}, {text}", tokens, "it", "a good movie")
        assert row.input_ids == tokens(f"a good movie?{tokens.mask_token}, it")["input_ids"]

    def test_a_decoder_reads_up_to_the_word_that_comes_next(self):
        tokens = tiny_gpt2_tokenizer()
        for template in ("{text} It was", "{text} It was  "):
            row, _ = encode(template, tokens, "a good movie ")
            assert row.input_ids == tokens("a good movie It was")["input_ids"]
        assert encode("It: {text}\n", tokens, "a movie")[0].input_ids == tokens("It: a movie\n")["input_ids"]

    def test_a_decoders_row_does_not_end_before_the_answer(self):
        tokens = closed_gpt2()
        whole = tokens("a good movie It was")["input_ids"]
        assert whole[0] == whole[-1] == tokens.eos_token_id
        assert encode("{text} It was", tokens, "a good movie")[0].input_ids == whole[:-1]

    @TOKENIZERS
    def test_a_mask_in_the_text_is_none(self, tokenizer):
        """So there is one mask, wherever the user's text speaks of masks."""
        tokens = tokenizer()
        mask = tokens.mask_token
        for text in (f"{mask} it", f"a{mask} movie", f"it {mask}"):
            row, _ = encode("{text} It was {mask}.", tokens, text)
            assert row.input_ids.count(tokens.mask_token_id) == 1
            assert row.input_ids.index(tokens.mask_token_id) == len(row) - 1 - len(_behind(tokens))

    def test_braces_in_a_text_are_no_fields(self):
        tokens = tiny_bert_tokenizer()
        row, _ = encode("{text} It was {mask}.", tokens, "{mask} {text} {x}")
        assert row.input_ids == tokens(f"{{mask}} {{text}} {{x}} It was {tokens.mask_token}.")["input_ids"]

    def test_the_label_is_the_target(self):
        task = task_of(labels=("bad", "good"))
        example = TextExample(id="0", text="it", label="good")
        assert task.encode(example, tiny_bert_tokenizer(), 32).rows[0].targets == {"label": 1}
        assert task.encode(TextExample(id="0", text="it"), tiny_bert_tokenizer(), 32).rows[0].targets == {}


def _behind(tokens):
    """What stands behind the mask in "{text} It was {mask}."."""
    ids = tokens(f"It was{tokens.mask_token}.")["input_ids"]
    return ids[ids.index(tokens.mask_token_id) + 1 :]


class TestTruncation:
    @TOKENIZERS
    @pytest.mark.parametrize("length", [12, 20, 33])
    def test_the_text_loses_its_end_and_the_template_nothing(self, tokenizer, length):
        tokens = tokenizer()
        row, note = encode("{text} It was {mask}.", tokens, LONG, max_length=length)
        whole = tokens(f"{LONG.strip()} It was{tokens.mask_token}.")["input_ids"]
        template = tokens(f". It was{tokens.mask_token}.")["input_ids"]
        kept = 1 if tokenizer is not tiny_sentencepiece_tokenizer else 2  # '▁.' where '.' follows nothing
        behind = template[1 + kept :]
        assert note == "truncated"
        assert row.input_ids == [*whole[: length - len(behind)], *behind]

    def test_so_it_is_for_decoders(self):
        tokens = tiny_gpt2_tokenizer()
        row, note = encode("It: {text} It was", tokens, LONG, max_length=20)
        behind = tokens(" It was")["input_ids"]
        assert row.input_ids == [*tokens(f"It: {LONG}")["input_ids"][: 20 - len(behind)], *behind]
        assert note == "truncated"

    @TOKENIZERS
    @pytest.mark.parametrize("texts", [("it", LONG), (LONG, "it")])
    def test_the_longer_of_a_pair_is_cut(self, tokenizer, texts):
        tokens = tokenizer()
        row, _ = encode("{text} so {pair}? {mask}.", tokens, *texts, max_length=24)
        shown = tokens.decode(row.input_ids)
        assert len(row) == 24
        assert row.input_ids.count(tokens.mask_token_id) == 1
        assert ("it so" in shown) if texts[0] == "it" else ("so it?" in shown.replace(" ?", "?"))

    def test_both_of_a_pair_are_cut_to_one_length(self):
        tokens = tiny_bert_tokenizer()
        row, _ = encode("{text} : {pair} {mask}", tokens, LONG, LONG, max_length=24)
        assert row.input_ids.index(tokens.convert_tokens_to_ids(":")) == 11
        assert row.input_ids[-2] == tokens.mask_token_id

    def test_what_just_fits_is_not_cut(self):
        tokens = tiny_bert_tokenizer()
        length = len(encode("{text} It was {mask}.", tokens, "my sister")[0])
        assert encode("{text} It was {mask}.", tokens, "my sister", max_length=length)[1] is None
        assert encode("{text} It was {mask}.", tokens, "my sister", max_length=length - 1)[1] == "truncated"
        with pytest.raises(TaskError, match=r"task\.template: leaves no room to the text in a row of 6 tokens"):
            encode("{text} It was {mask}.", tokens, "my sister", max_length=length - 2)

    def test_an_empty_text_needs_no_room(self):
        tokens = tiny_bert_tokenizer()
        assert len(encode("{text} It was {mask}.", tokens, "", max_length=6)[0]) == 6


class TestWords:
    @pytest.mark.parametrize(
        ("tokenizer", "template", "token"),
        [
            (tiny_bert_tokenizer, "{text} It was {mask}.", "wonderful"),
            (tiny_bert_tokenizer, "({mask}) {text}", "wonderful"),
            (tiny_roberta_tokenizer, "{text} It was {mask}.", "\u0120wonderful"),
            (tiny_sentencepiece_tokenizer, "{text} It was {mask}.", "\u2581wonderful"),
            (tiny_sentencepiece_tokenizer, "{mask}: {text}", "\u2581wonderful"),
            (tiny_gpt2_tokenizer, "{text} It was", "\u0120wonderful"),
            (tiny_gpt2_tokenizer, "{text} It was ", "\u0120wonderful"),
        ],
    )
    def test_a_word_is_the_token_of_its_place(self, tokenizer, template, token):
        tokens = tokenizer()
        assert Cloze(template).answers({"x": "wonderful"}, tokens) == {"x": tokens.convert_tokens_to_ids(token)}

    @pytest.mark.parametrize(
        ("tokenizer", "template", "word", "says"),
        [
            (tiny_bert_tokenizer, "{text} It was {mask}.", "bookish", "'bookish' of label 'x' is not one token"),
            (tiny_roberta_tokenizer, "{mask}: {text}", "good", "in its place but 'g' + 'ood'"),
            (tiny_roberta_tokenizer, "{text} ({mask})", "wonderful", "is not one token in its place but 'w"),
            (tiny_gpt2_tokenizer, "{text}\n", "wonderful", "is not one token in its place but 'w"),
            (tiny_sentencepiece_tokenizer, "{text} ({mask})", "good", "is not one token in its place but 'g' + 'o'"),
            (tiny_bert_tokenizer, "{text} It was {mask}.", "\u6f22", "is not in the vocabulary"),
            (tiny_sentencepiece_tokenizer, "{text} It was {mask}.", "\u6f22", "is not in the vocabulary"),
            (tiny_roberta_tokenizer, "{text} has {mask}s", "bank", "is not one token in its place but '\u0120banks'"),
        ],
    )
    def test_what_is_not_one_token_there_is_refused_with_its_pieces(self, tokenizer, template, word, says):
        with pytest.raises(TaskError, match=r"^task\.verbalizer: the word .* Choose another word$") as caught:
            Cloze(template).answers({"x": word}, tokenizer())
        assert says in str(caught.value)

    def test_two_labels_need_two_words(self):
        words = {"a": "good", "b": "Good"}
        with pytest.raises(TaskError, match=r"^task\.verbalizer: labels 'a' and 'b' have the same word, 'Good'$"):
            Cloze("{text} {mask}").answers(words, tiny_bert_tokenizer())


class TestSettings:
    @pytest.mark.parametrize(
        ("settings", "field", "says"),
        [
            ({"template": None}, "template", "is needed with head = 'verbalizer'"),
            ({"template": "It was {mask}."}, "template", "expected {text}"),
            ({"template": "{text} {word}"}, "template", "'{word}' is not one of {text}, {pair}, {mask}"),
            ({"template": "{text} {mask} {mask}"}, "template", "'{mask}' comes twice"),
            ({"template": "{text} {pair} {mask}"}, "template", "{pair} needs its field, columns.pair"),
            ({"columns": {"pair": "second"}}, "template", "expected {pair} for the second text"),
            ({"words": None}, "verbalizer", "is needed with head = 'verbalizer'"),
            ({"words": {}}, "verbalizer", "is needed with head = 'verbalizer'"),
            ({"words": {"a": " good"}}, "verbalizer", "the word of label 'a' is ' good'; expected one without white"),
            ({"words": {"a": ""}}, "verbalizer", "the word of label 'a' is ''"),
            ({"labels": ("good", "bad", "so")}, "verbalizer", "label 'so' has no word"),
            ({"labels": ("good",)}, "verbalizer", "'bad' is no label. Labels: good"),
            ({"pooling": "first"}, "pooling", "has no meaning with head = 'verbalizer'"),
            ({"hidden_layer": True}, "hidden_layer", "has no meaning with head = 'verbalizer'"),
            ({"dropout": 0.5}, "dropout", "has no meaning with head = 'verbalizer'"),
        ],
    )
    def test_what_does_not_fit_is_told_by_its_field(self, settings, field, says):
        with pytest.raises(ValidationError) as caught:
            task_of(**settings)
        (error,) = caught.value.errors()
        assert error["loc"] == (field,)
        assert says in error["msg"]

    @pytest.mark.parametrize("settings", [{"template": "{text} {mask}"}, {"verbalizer": {"a": "b"}}])
    def test_a_pooled_head_has_no_words(self, settings):
        with pytest.raises(ValidationError, match="is for verbalizers"):
            fw.Classification(**settings)

    def test_an_unknown_head_is_one_mistake(self):
        with pytest.raises(ValidationError) as caught:
            fw.Classification(head="word", template="{text} {mask}", verbalizer={"a": "b"})
        assert [error["loc"] for error in caught.value.errors()] == [("head",)]

    def test_learned_verbalizers_need_no_words_and_have_dropout(self):
        task = fw.Classification(
            head="learned-verbalizer", template="{text} {mask}", labels=("a", "b"), verbalizer={"b": "x"}, dropout=0.5
        )
        assert fw.Classification.model_validate(task.model_dump(mode="json")) == task

    def test_labels_found_in_the_data_are_held_against_the_words(self):
        examples = [TextExample(id="0", text="x", label=label) for label in ("good", "so", "bad")]
        with pytest.raises(TaskError, match=r"^task\.verbalizer: label 'so' has no word$"):
            task_of().with_labels_from(examples)
        with pytest.raises(TaskError, match=r"^task\.verbalizer: 'bad' is no label. Labels: good$"):
            task_of().with_labels_from(examples[:1])
        assert task_of().with_labels_from([examples[0], examples[2]]).labels == ("bad", "good")


class TestBackbones:
    def build(self, family: str, template: str, *, language_model: bool = True, words=WORDS):
        backbone = tiny_backbone(family, language_model=language_model)
        return task_of(template, words, labels=tuple(words)).build_head(backbone.hidden_size, backbone)

    def test_without_its_language_model(self):
        with pytest.raises(BackboneError) as caught:
            self.build("bert", "{text} {mask}", language_model=False)
        assert "task.head = 'verbalizer' needs its language model" in str(caught.value)
        assert "language_model = true in [backbone], or load_backbone(..., language_model=True)" in str(caught.value)

    @pytest.mark.parametrize(
        ("family", "template", "says"),
        [
            ("bert", "{text} It was", r"task\.template: expected \{mask\} in it, where an encoder answers"),
            ("gpt2", "{text} It was {mask}", r"task\.template: has \{mask\}, but the tokenizer .* has no mask token"),
            ("bart", "{text} It was {mask}", r"task\.template: is for encoders and decoders .*kind 'encoder-decoder'"),
        ],
    )
    def test_a_template_that_the_model_cannot_answer(self, family, template, says):
        with pytest.raises(TaskError, match=says):
            self.build(family, template)

    def test_it_is_told_before_any_text_is_encoded(self):
        """By training itself, not only by who builds a head."""
        items = [{"text": LONG, "label": label} for label in WORDS]
        options = {"train": items, "dev": items, "progress": False, "max_length": 8}
        with pytest.raises(BackboneError, match="needs its language model"):
            fw.train(tiny_backbone(), fw.PTuningV2(), task_of(), **options)
        spoken, task = tiny_backbone(language_model=True), task_of(words={"good": "wonderful", "bad": "bookish"})
        with pytest.raises(TaskError, match=r"the word 'bookish' of label 'bad'"):
            fw.train(spoken, fw.PTuningV2(), task, **options)


@pytest.fixture
def recipe(tmp_path):
    """A folder with a backbone, its data and a recipe that compares words."""
    backbone = tiny_backbone_folder("bert", tmp_path / "bert", language_model=True)
    items = [{"text": f"it {word}", "label": label} for word in ("has", "was", "wrote") for label in WORDS]
    (tmp_path / "data.jsonl").write_text("".join(json.dumps(item) + "\n" for item in items))
    (tmp_path / "words.toml").write_text(
        f'[backbone]\nname = "{backbone}"\nlanguage_model = true\n'
        '[task]\ntype = "classification"\nhead = "verbalizer"\ntemplate = "{text} It was {mask}."\n'
        '[task.verbalizer]\ngood = "wonderful"\nbad = "boring"\n'
        '[data]\ntrain = "data.jsonl"\ndev = "data.jsonl"\n'
        "[method]\nprompt_length = 2\n[training]\nepochs = 1\n"
    )
    return tmp_path / "words.toml"


class TestRecipe:
    def test_from_a_recipe_to_answers(self, recipe, tmp_path, capsys):
        run, data = tmp_path / "run", tmp_path / "data.jsonl"
        assert main(["train", str(recipe), "--output", str(run)]) == 0
        found = load_artifact(run)
        assert found.manifest.parameters.head == 0
        assert found.head == {}
        assert load_recipe(run / "recipe.toml").task.verbalizer == WORDS
        capsys.readouterr()
        assert main(["inspect", str(run)]) == 0
        assert "head = verbalizer" in capsys.readouterr().out
        assert main(["evaluate", str(run), "--data", str(data), "--json"]) == 0
        scores = json.loads(capsys.readouterr().out)
        assert scores["values"]["accuracy"] == found.manifest.metrics.values["accuracy"]
        arguments = ["predict", str(run), "--backbone", str(tmp_path / "bert"), "--input", str(data)]
        assert main(arguments) == 0
        answers = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
        assert [set(answer["probabilities"]) for answer in answers] == [set(WORDS)] * 6

    def test_without_the_language_model_it_is_a_mistake_of_the_recipe(self, recipe):
        with pytest.raises(RecipeError, match=r"backbone\.language_model: the task's head reads the vocabulary"):
            load_recipe(recipe, ["backbone.language_model=false"])

    def test_mistakes_name_their_fields(self, recipe):
        with pytest.raises(RecipeError) as caught:
            load_recipe(recipe, ["task.template={text} was", "task.pooling=first", "task.verbalizer.good= "])
        assert [mistake.split(":")[0] for mistake in caught.value.mistakes] == ["task.verbalizer", "task.pooling"]
