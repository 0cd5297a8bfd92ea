"""The calculator against the papers: figures printed in them, and formulas worked out by hand."""

from __future__ import annotations

import re

import pytest
from transformers import AutoConfig

from foreword.artifacts.tensors import prompt_names
from foreword.backbones import FAMILIES, plan_backbone
from foreword.cli.main import main
from foreword.errors import BackboneError, MethodError
from foreword.methods import METHODS, PTuningV2, fold
from foreword.methods.base import attach
from foreword.studies.parameters import count_all, count_parameters, head_parameters, label_names, variants
from tiny import tiny_backbone

CONFIGS = {
    "bert-large": (
        "bert",
        {"hidden_size": 1024, "num_hidden_layers": 24, "num_attention_heads": 16, "intermediate_size": 4096},
    ),
    "gpt2-medium": ("gpt2", {"n_embd": 1024, "n_layer": 24, "n_head": 16}),
    "t5-xxl": (
        "t5",
        {
            "d_model": 4096,
            "d_ff": 10240,
            "num_layers": 24,
            "num_heads": 64,
            "d_kv": 64,
            "vocab_size": 32128,
            "feed_forward_proj": "gated-gelu",
            "tie_word_embeddings": False,
        },
    ),
    "bart-large": ("bart", {}),  # transformers' own defaults are those of facebook/bart-large
}


@pytest.fixture(scope="module")
def planned(tmp_path_factory):
    """Backbones of the papers' sizes, from hand-made configs: no weights exist anywhere."""
    made = {}

    def plan(name):
        family, sizes = CONFIGS[name]
        if family not in FAMILIES:
            pytest.skip(f"the family {family} is not in the table")
        if name not in made:
            folder = tmp_path_factory.mktemp(name)
            AutoConfig.for_model(family, **sizes).save_pretrained(folder)
            made[name] = plan_backbone(str(folder))
        return made[name]

    return plan


def method(name, **settings):
    if name not in METHODS:
        pytest.skip(f"the method {name} is not in the table")
    return METHODS[name](**settings)


def bert_size(*, layers, width, inner, vocabulary=30522, positions=512):
    """Parameters of a BERT without its pooler, from the paper's description."""
    embeddings = (vocabulary + positions + 2) * width + 2 * width
    attention = 4 * (width * width + width) + 2 * width
    feed_forward = 2 * width * inner + inner + width + 2 * width
    return embeddings + layers * (attention + feed_forward)


def t5_size(*, layers, width, inner, vocabulary=32128, heads=64):
    """Parameters of a gated T5, from the papers' description; output embeddings are those of the input."""
    attention, feed_forward, norm = 4 * width * width, 3 * width * inner, width
    encoder = layers * (attention + feed_forward + 2 * norm) + 32 * heads + norm
    decoder = layers * (2 * attention + feed_forward + 3 * norm) + 32 * heads + norm
    return vocabulary * width + encoder + decoder


class TestThePapers:
    @pytest.mark.parametrize(("length", "trained", "ratio"), [(20, 983_040, 0.00294), (100, 4_915_200, 0.01471)])
    def test_p_tuning_v2_on_bert_large(self, planned, length, trained, ratio):
        count = count_parameters(PTuningV2(prompt_length=length), planned("bert-large"))
        assert (count.trained, count.kept, count.stored_bytes) == (trained, trained, 4 * trained)
        assert count.backbone == bert_size(layers=24, width=1024, inner=4096)
        assert count.ratio == pytest.approx(ratio, rel=0.002)

    @pytest.mark.parametrize("length", [1, 20, 128])
    def test_the_mlp_trains_25_74_million_whatever_the_length(self, planned, length):
        settings = PTuningV2(prompt_length=length, reparameterization="mlp")
        count = count_parameters(settings, planned("bert-large"))
        assert count.trained == 25_739_776 + 1024 * length
        assert count.kept == 49_152 * length

    def test_prefix_tuning_on_gpt2_medium(self, planned):
        count = count_parameters(method("prefix-tuning", prompt_length=10), planned("gpt2-medium"))
        assert count.kept == 491_520
        assert count.trained == 25_739_776 + 1024 * 10
        assert count.kept / count.backbone == pytest.approx(0.00139, rel=0.01)

    def test_prefix_tuning_of_three_stacks_on_bart_large(self, planned):
        settings = method("prefix-tuning", prompt_length=200, mlp_hidden=800)
        count = count_parameters(settings, planned("bart-large"))
        assert count.trained == 62_130_528
        assert count.kept == 14_745_600

    @pytest.mark.parametrize(("length", "trained"), [(5, 20_480), (100, 409_600)])
    def test_prompt_tuning_on_t5_xxl(self, planned, length, trained):
        count = count_parameters(method("prompt-tuning", prompt_length=length), planned("t5-xxl"))
        assert (count.trained, count.kept) == (trained, trained)
        assert count.stored_bytes == 4 * trained + 8 * length  # a place for every vector
        assert count.backbone == t5_size(layers=24, width=4096, inner=10240)
        assert count.ratio < 0.0001


@pytest.mark.parametrize("family", sorted(FAMILIES))
def test_a_plan_counts_what_a_loaded_backbone_has(family):
    """Whatever a method is made of: built for real and written, it has the numbers the plan said."""
    whole = {"language_model": True} if FAMILIES[family].kind == "encoder-decoder" else {}
    loaded = tiny_backbone(family, **whole)
    planned = plan_backbone(loaded.name)
    labels = label_names(2)
    assert planned.sites == loaded.sites
    assert planned.parameter_count == loaded.parameter_count
    assert (planned.hidden_size, planned.embedding_size) == (loaded.hidden_size, loaded.embedding_size)
    for name, settings in variants(prompt_length=3):
        try:
            expected = settings.build(loaded, labels)
        except MethodError:
            continue
        parts = [] if expected is None else [*expected.parameters()]
        written = list(prompt_names(None if expected is None else fold(expected)).values())
        weights = dict(loaded.model.named_parameters())
        try:
            attachment, tuned = attach(settings, loaded), settings.tuned(list(weights))
        except MethodError:
            continue
        count = count_parameters(settings, planned, labels)
        own = [*(weights[name] for name in tuned), *(() if attachment is None else attachment.parameters())]
        assert count.trained == sum(p.numel() for p in [*parts, *own]), name
        assert count.stored_bytes == sum(t.numel() * t.element_size() for t in [*written, *own]), name
        if attachment is not None:
            attachment.detach()


def test_nothing_is_loaded_and_nothing_has_numbers(planned):
    backbone = planned("bert-large")
    assert all(p.is_meta for p in backbone.model.parameters())
    assert len(backbone.sites) == 24


def test_every_method_is_counted_or_refused(planned):
    counts = count_all(planned("bert-large"), 20, label_names(2))
    assert {name.partition(" (")[0] for name in counts} == set(METHODS) - {"combined", "mixture"}
    assert counts["head-only"].trained == 0
    assert counts["fine-tuning"].ratio == 1


def test_the_head_of_a_task(planned):
    assert head_parameters(planned("bert-large"), 3) == 1024 * 3 + 3


class TestCommand:
    def table(self, capsys, *arguments):
        assert main(["methods", *arguments]) == 0
        out = capsys.readouterr().out
        return out, {line.split("  ")[0]: re.split(r"  +", line.strip()) for line in out.splitlines() if "  " in line}

    def test_prints_what_was_counted(self, planned, capsys):
        folder = planned("bert-large").name
        out, rows = self.table(capsys, "--backbone", folder, "--prompt-length", "20")
        assert "334,092,288 parameters, none of them loaded" in out
        assert rows["ptuning-v2 (direct)"][1:] == ["983,040", "983,040", "3,932,160", "0.2942%"]
        assert rows["ptuning-v2 (mlp)"][1:4] == ["25,760,256", "983,040", "3,932,160"]
        assert "no task's head" in out

    def test_counts_a_head_where_it_is_told_of_labels(self, planned, capsys):
        out, rows = self.table(capsys, "--backbone", planned("bert-large").name, "--labels", "3")
        assert rows["head-only"][1:4] == ["3,075", "3,075", "12,300"]
        assert "3 labels (3,075)" in out

    def test_one_method_alone(self, planned, capsys):
        _, rows = self.table(capsys, "head-only", "--backbone", planned("bert-large").name)
        assert set(rows) == {"method", "head-only"}

    @pytest.mark.parametrize(
        ("arguments", "says"),
        [
            (["--prompt-length", "5"], "which --backbone"),
            (["--labels", "5"], "which --backbone"),
            (["--backbone", "/nowhere"], "no such folder"),
            (["no-such", "--backbone", "/nowhere"], "no method 'no-such'"),
        ],
    )
    def test_refuses(self, arguments, says, capsys):
        assert main(["methods", *arguments]) == 2
        assert says in capsys.readouterr().err


def test_an_unsupported_family_cannot_be_planned(tmp_path):
    AutoConfig.for_model("bloom").save_pretrained(tmp_path)
    with pytest.raises(BackboneError, match="'bloom' is not supported"):
        plan_backbone(str(tmp_path))
