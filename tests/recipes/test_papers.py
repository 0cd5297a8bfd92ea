"""Recipes for the papers' tables: all are there, fit their backbone, and have prompts of the published sizes."""

from __future__ import annotations

import tomllib
from math import prod

import pytest
from transformers import AutoConfig

from foreword.backbones import plan_backbone
from foreword.methods import FineTuning, PrefixTuning, PromptTuning, PTuningV2
from foreword.recipes import load_any_recipe, load_recipe, packaged_folders, packaged_in, packaged_recipes
from foreword.recipes.schema import Recipe
from foreword.studies.parameters import count_parameters
from foreword.tasks import Classification
from packaged_names import PARTS, SEVERAL, SINGLE
from paper_rows import PAGE, START, WITHOUT_WEIGHTS, beginning, recipe_of, rows, tables

LARGE = {"hidden_size": 1024, "num_hidden_layers": 24, "num_attention_heads": 16, "intermediate_size": 4096}
T5 = {"d_kv": 64, "vocab_size": 32128, "feed_forward_proj": "gated-gelu", "tie_word_embeddings": False}
CONFIGS = {
    "bert-large-cased": ("bert", {**LARGE, "vocab_size": 28996}),
    "bert-large-uncased": ("bert", {**LARGE, "vocab_size": 30522}),
    "roberta-large": (
        "roberta",
        {**LARGE, "vocab_size": 50265, "max_position_embeddings": 514, "type_vocab_size": 1},
    ),
    "microsoft/deberta-xlarge": (
        "deberta",
        {
            **LARGE,
            "num_hidden_layers": 48,
            "vocab_size": 50265,
            "relative_attention": True,
            "position_biased_input": False,
            "pos_att_type": ["c2p", "p2c"],
            "type_vocab_size": 0,
        },
    ),
    "gpt2-medium": ("gpt2", {"n_embd": 1024, "n_layer": 24, "n_head": 16}),
    "gpt2-large": ("gpt2", {"n_embd": 1280, "n_layer": 36, "n_head": 20}),
    "facebook/bart-large": ("bart", {}),  # transformers' own defaults are those of it
    "google/t5-small-lm-adapt": ("t5", {**T5, "d_model": 512, "d_ff": 1024, "num_layers": 8, "num_heads": 6}),
    "google/t5-base-lm-adapt": ("t5", {**T5, "d_model": 768, "d_ff": 2048, "num_layers": 12, "num_heads": 12}),
    "google/t5-large-lm-adapt": ("t5", {**T5, "d_model": 1024, "d_ff": 2816, "num_layers": 24, "num_heads": 16}),
    "google/t5-xl-lm-adapt": ("t5", {**T5, "d_model": 2048, "d_ff": 5120, "num_layers": 24, "num_heads": 32}),
    "google/t5-xxl-lm-adapt": ("t5", {**T5, "d_model": 4096, "d_ff": 10240, "num_layers": 24, "num_heads": 64}),
}
"""Sizes as published with the weights; no weights exist here."""
PER_POSITION = {
    "bert-large-cased": 49_152,
    "bert-large-uncased": 49_152,
    "roberta-large": 49_152,
    "microsoft/deberta-xlarge": 98_304,
    "gpt2-medium": 49_152,
    "gpt2-large": 92_160,
    "facebook/bart-large": 73_728,
}
"""Numbers per position of a deep prompt, worked out by hand: two of width D per layer; of BART's three attentions."""
PAPERS = [name for name in SINGLE if "/" in name and not name.startswith("published/")]


@pytest.fixture(autouse=True)
def _data(monkeypatch):
    monkeypatch.setenv("FOREWORD_DATA", "/data")


@pytest.fixture(scope="module")
def planned(tmp_path_factory):
    """Backbones of the published sizes, each made once."""
    made = {}

    def plan(name):
        if name not in made:
            family, sizes = CONFIGS[name]
            folder = tmp_path_factory.mktemp(family)
            AutoConfig.for_model(family, **sizes).save_pretrained(folder)
            made[name] = plan_backbone(str(folder))
        return made[name]

    return plan


def sized(method):
    """A method without what it starts from, which needs a tokenizer and changes no size."""
    return method.model_copy(update={"init": "normal", "init_text": None}) if hasattr(method, "init") else method


class TestPage:
    def test_every_figure_has_its_recipe(self):
        wanted = {recipe_of(row, method) for row in rows() for method in row.scores}
        assert len(wanted) > 130
        assert wanted <= set(PAPERS)

    def test_the_recipe_is_of_that_method(self):
        for row in rows():
            for method in row.scores:
                assert load_recipe(recipe_of(row, method)).method.name == method.partition(" ")[0]

    def test_the_page_has_them_as_they_are(self):
        assert PAGE.read_text("utf-8").partition(START)[2] == "\n" + tables(), "run python tests/paper_rows.py"

    def test_only_those_are_left_out_that_the_page_speaks_of(self):
        assert {name.partition("-")[0] for name in WITHOUT_WEIGHTS} == {"GLM"}
        assert "- GLM, " in PAGE.read_text("utf-8")

    def test_names_every_folder_of_a_row(self):
        assert {beginning(row).partition("/")[0] for row in rows()} <= set(packaged_folders())


@pytest.mark.parametrize("name", PAPERS)
class TestRecipes:
    def test_fits_its_backbone(self, name, planned):
        recipe = load_recipe(name)
        method, backbone = recipe.method, recipe.backbone.name
        count = count_parameters(sized(method), planned(backbone))
        match method:
            case PTuningV2() | PrefixTuning():
                assert count.kept == method.prompt_length * PER_POSITION[backbone]
            case PromptTuning():
                assert count.kept == count.trained == method.prompt_length * planned(backbone).embedding_size
            case FineTuning():
                assert count.trained == count.backbone
            case _:
                pytest.fail("no paper here has this method")

    def test_is_of_the_folder_it_stands_in(self, name):
        folder, _, rest = name.partition("/")
        recipe = load_recipe(name)
        assert folder in recipe.backbone.name
        data = rest.partition("-")[0]
        source = load_recipe(f"published/{data}" if f"published/{data}" in packaged_recipes() else data).data
        assert (recipe.data.train, recipe.data.dev, recipe.data.test) == (source.train, source.dev, source.test)

    def test_head_and_prompt_have_one_rate(self, name):
        training = load_recipe(name).training
        heads = not isinstance(load_recipe(name).method, PrefixTuning) and not name.startswith("t5-")
        assert not heads or training.head_learning_rate == training.learning_rate


@pytest.mark.parametrize("name", [name for name in packaged_recipes() if "/" in name])
def test_is_short_and_says_what_it_is(name):
    lines = packaged_recipes()[name].splitlines()
    assert lines[0].startswith("# ")
    assert lines[0].endswith(".")
    assert max(map(len, lines)) <= 120
    assert len(lines) <= 35


@pytest.mark.parametrize("name", PARTS)
def test_a_part_is_of_use(name):
    bases = [tomllib.loads(text).get("base", []) for text in packaged_recipes().values()]
    assert any(name in ([base] if isinstance(base, str) else base) for base in bases)


class TestSizes:
    """Figures printed in the papers."""

    @pytest.mark.parametrize(
        ("name", "trained", "kept"),
        [
            ("bert-large/rte-ptuning-v2", 983_040, 983_040),  # 0.98 million
            ("roberta-large/rte-ptuning-v2", 6_291_456, 6_291_456),  # 6.29 million, 1.8 %
            ("roberta-large/conll2005-ptuning-v2", 11_010_048, 11_010_048),
            # An embedding of 20 x 1024, and an MLP of 512: 1024 -> 512 -> 49,152.
            ("bert-large/wic-ptuning-v2", 20 * 1024 + 1024 * 512 + 512 + 512 * 49_152 + 49_152, 983_040),
            ("gpt2-medium/dart-prefix-tuning", 25_750_016, 491_520),  # 25.75 and 0.49 million
            ("t5-xxl-lm-adapt/rte-prompt-tuning", 409_600, 409_600),
            ("t5-base-lm-adapt/sst2-prompt-tuning", 76_800, 76_800),
        ],
    )
    def test_as_published(self, name, trained, kept, planned):
        recipe = load_recipe(name)
        count = count_parameters(sized(recipe.method), planned(recipe.backbone.name))
        assert (count.trained, count.kept) == (trained, kept)

    def test_of_bart(self, planned):
        recipe = load_recipe("bart-large/xsum-prefix-tuning")
        count = count_parameters(sized(recipe.method), planned(recipe.backbone.name))
        assert (round(count.trained / 1e6, 1), round(count.kept / 1e6, 1)) == (62.1, 14.7)

    def test_shares_of_the_backbone(self, planned):
        recipe = load_recipe("roberta-large/rte-ptuning-v2")
        assert round(100 * count_parameters(recipe.method, planned("roberta-large")).ratio, 1) == 1.8
        assert planned("microsoft/deberta-xlarge").parameter_count == pytest.approx(750e6, rel=0.02)

    def test_an_inner_head_like_berts(self):
        task = load_recipe("bert-large/rte-ptuning-v2").task
        assert isinstance(task, Classification)
        head = task.model_copy(update={"labels": ("no", "yes")}).build_head(1024)
        shapes = sorted(tuple(weight.shape) for weight in head.parameters())
        assert sum(map(prod, shapes)) == 1024 * 1024 + 1024 + 1024 * 2 + 2


class TestAfterSeveral:
    @pytest.mark.parametrize("name", [name for name in PAPERS if name.endswith("-after-multi-task")])
    def test_begins_where_the_run_of_several_ends(self, name):
        recipe = load_recipe(name)
        runs, folder, several, artifacts, task = str(recipe.training.start_from).split("/")
        assert (runs, artifacts) == ("runs", "artifacts")  # where `foreword train` puts them
        first = load_any_recipe(f"{folder}/{several}")
        assert not isinstance(first, Recipe)
        assert first.backbone == recipe.backbone
        assert (first.tasks[task].task.name, first.tasks[task].data) == (recipe.task.name, recipe.data)
        assert first.method.prompt_length == recipe.method.prompt_length
        assert first.tasks[task].task.build_head(8).state_dict().keys() == recipe.task.build_head(8).state_dict().keys()

    def test_every_run_of_several_is_gone_on_from(self):
        gone_on = {load_recipe(name).training.start_from for name in PAPERS if name.endswith("-after-multi-task")}
        for name in SEVERAL:
            if "/" in name:
                for task in load_any_recipe(name).tasks:
                    assert f"runs/{name}/artifacts/{task}" in gone_on


def test_folders_hold_what_is_theirs():
    assert {"parts", "published"} < set(packaged_folders())
    assert "rte" in packaged_in("")
    assert all(name.startswith("parts/") for name in packaged_in("parts"))
