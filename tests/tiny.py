"""Small real tokenizers and backbones, made on the spot: no network, and the same ones on every run."""

from __future__ import annotations

import json
import re
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache
from itertools import product
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import (
    AutoConfig,
    AutoModel,
    AutoModelForCausalLM,
    AutoModelForMaskedLM,
    AutoModelForSeq2SeqLM,
    PreTrainedTokenizerFast,
)

from foreword.backbones import FAMILIES, Backbone, load_backbone

_PEOPLE = ("Anna Smith", "the old doctor", "Peter", "a young teacher", "O'Brien", "nobody", "my sister")
_DOINGS = (
    "visited",
    "didn't like",
    "was reading about",
    "wrote a letter to",
    "is looking for",
    "has never seen",
    "would gladly recommend",
)
_THINGS = (
    "London",
    "the good movie",
    "New York-based banks",
    "2 small houses",
    "it",
    "a boring book",
    "this wonderful company",
    "some cheap food in Germany",
)


def _corpus() -> list[str]:
    sentences = (f"{who} {does} {what}." for who, does, what in product(_PEOPLE, _DOINGS, _THINGS))
    return [sentence[0].upper() + sentence[1:] for sentence in sentences]


def _word_pieces() -> list[str]:
    """Special tokens, ASCII characters, and the words of the corpus with their tails of 2 to 4 letters.

    Put together here because the trainer of WordPiece breaks ties another way on every run.
    """
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    letters = [char for char in map(chr, range(ord("!"), ord("~") + 1)) if char == char.lower()]
    words = {word.lower() for sentence in _corpus() for word in re.findall(r"[A-Za-z]{2,}", sentence)}
    tails = {f"##{word[-length:]}" for word in words for length in (2, 3, 4) if len(word) > length}
    return [*special, *letters, *(f"##{letter}" for letter in letters), *sorted(words), *sorted(tails)]


@cache
def tiny_bert_tokenizer() -> PreTrainedTokenizerFast:
    """WordPiece as in BERT: lower case, accents stripped, token types 0 and 1 for a pair."""
    vocabulary = {piece: number for number, piece in enumerate(_word_pieces())}
    tokenizer = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS]:0 $A:0 [SEP]:0",
        pair="[CLS]:0 $A:0 [SEP]:0 $B:1 [SEP]:1",
        special_tokens=[(token, tokenizer.token_to_id(token)) for token in ("[CLS]", "[SEP]")],
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        model_max_length=128,
        model_input_names=["input_ids", "token_type_ids", "attention_mask"],
        pad_token="[PAD]",
        unk_token="[UNK]",
        cls_token="[CLS]",
        sep_token="[SEP]",
        mask_token="[MASK]",
    )


@cache
def tiny_roberta_tokenizer() -> PreTrainedTokenizerFast:
    """Byte-level BPE as in RoBERTa: the space belongs to the word after it, no token types."""
    special = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=500,
        special_tokens=special,
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(_corpus(), trainer)
    tokenizer.post_processor = processors.RobertaProcessing(
        ("</s>", tokenizer.token_to_id("</s>")),
        ("<s>", tokenizer.token_to_id("<s>")),
        trim_offsets=True,
        add_prefix_space=False,
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        model_max_length=128,
        model_input_names=["input_ids", "attention_mask"],
        bos_token="<s>",
        eos_token="</s>",
        cls_token="<s>",
        sep_token="</s>",
        unk_token="<unk>",
        pad_token="<pad>",
        mask_token="<mask>",
    )


@cache
def tiny_sentencepiece_tokenizer() -> PreTrainedTokenizerFast:
    """Unigram pieces as in ALBERT, DeBERTa-v2 and T5: the space is a letter of the word after it, types 0 and 1."""
    special = ["<pad>", "[CLS]", "[SEP]", "<unk>", "[MASK]"]
    words = {word for sentence in _corpus() for word in re.findall(r"[A-Za-z]{2,}", sentence)}
    starts = {f"\u2581{word[:length]}" for word in words for length in (2, 3, 4, len(word))}
    letters = ["\u2581", *map(chr, range(ord("!"), ord("~") + 1))]
    scores = [*((token, 0.0) for token in special), *((letter, -9.0) for letter in letters)]
    scores += [(piece, -8.0 - 1 / len(piece)) for piece in sorted(starts)]
    tokenizer = Tokenizer(models.Unigram(scores, unk_id=3))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.decoder = decoders.Metaspace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS]:0 $A:0 [SEP]:0",
        pair="[CLS]:0 $A:0 [SEP]:0 $B:1 [SEP]:1",
        special_tokens=[(token, tokenizer.token_to_id(token)) for token in ("[CLS]", "[SEP]")],
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        model_max_length=128,
        model_input_names=["input_ids", "token_type_ids", "attention_mask"],
        pad_token="<pad>",
        unk_token="<unk>",
        cls_token="[CLS]",
        sep_token="[SEP]",
        mask_token="[MASK]",
    )


@cache
def tiny_gpt2_tokenizer() -> PreTrainedTokenizerFast:
    """Byte-level BPE as in GPT-2 and Llama: nothing is put around a text, and no token is there for padding."""
    end = "<|endoftext|>"
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=500,
        special_tokens=[end],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(_corpus(), trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        model_max_length=128,
        model_input_names=["input_ids", "attention_mask"],
        bos_token=end,
        eos_token=end,
        unk_token=end,
    )


@cache
def tiny_t5_tokenizer() -> PreTrainedTokenizerFast:
    """The pieces of `tiny_sentencepiece_tokenizer`, with only `</s>` behind a text, as in T5."""
    tokenizer = Tokenizer.from_str(tiny_sentencepiece_tokenizer().backend_tokenizer.to_str().replace("[SEP]", "</s>"))
    tokenizer.post_processor = processors.TemplateProcessing(
        single="$A </s>", pair="$A </s> $B </s>", special_tokens=[("</s>", tokenizer.token_to_id("</s>"))]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        model_max_length=128,
        model_input_names=["input_ids", "attention_mask"],
        pad_token="<pad>",
        eos_token="</s>",
        unk_token="<unk>",
    )


@dataclass(frozen=True)
class Tiny:
    """What the tiny model of a family is made of.

    Attributes:
        tokenizer: makes its tokenizer, None where it reads images.
        sizes: its config, without the vocabulary and the numbers of special tokens.
        options: keywords for `AutoModel.from_config`.
    """

    tokenizer: Callable[[], PreTrainedTokenizerFast] | None
    sizes: Mapping[str, Any]
    options: Mapping[str, Any] = field(default_factory=dict)


_BERT: dict[str, Any] = {
    "hidden_size": 32,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "intermediate_size": 64,
    "hidden_dropout_prob": 0.1,
    "attention_probs_dropout_prob": 0.1,
    "max_position_embeddings": 128,
    "initializer_range": 0.15,
}
_ROBERTA = _BERT | {"max_position_embeddings": 130, "type_vocab_size": 1}  # numbered from behind the padding's 1
_DEBERTA = _BERT | {"relative_attention": True, "pos_att_type": ["c2p", "p2c"]}
_NO_POOLER = {"add_pooling_layer": False}
_GPT: dict[str, Any] = {
    "hidden_size": 32,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "max_position_embeddings": 128,
    "initializer_range": 0.15,
}
_LLAMA = _GPT | {"intermediate_size": 48, "num_key_value_heads": 2}
_CLIP = _GPT | {"intermediate_size": 48, "initializer_factor": 3.0}
_IMAGES = {"image_size": 12, "patch_size": 4, "num_channels": 3}

TINY: dict[str, Tiny] = {
    "albert": Tiny(tiny_sentencepiece_tokenizer, _BERT | {"embedding_size": 16}, _NO_POOLER),
    "bert": Tiny(tiny_bert_tokenizer, _BERT, _NO_POOLER),
    "camembert": Tiny(tiny_roberta_tokenizer, _ROBERTA, _NO_POOLER),
    "deberta": Tiny(tiny_bert_tokenizer, _DEBERTA | {"max_relative_positions": 6, "type_vocab_size": 2}),
    "deberta-v2": Tiny(
        tiny_sentencepiece_tokenizer,
        _DEBERTA
        | {
            "max_relative_positions": -1,
            "position_buckets": 8,
            "norm_rel_ebd": "layer_norm",
            "share_att_key": True,
            "position_biased_input": False,
            "layer_norm_eps": 1e-7,
        },
    ),
    "distilbert": Tiny(
        tiny_bert_tokenizer,
        {
            "dim": 32,
            "n_layers": 3,
            "n_heads": 4,
            "hidden_dim": 64,
            "max_position_embeddings": 128,
            "initializer_range": 0.15,
        },
    ),
    "electra": Tiny(tiny_bert_tokenizer, _BERT | {"embedding_size": 16}),
    "modernbert": Tiny(
        tiny_bert_tokenizer,
        {
            "hidden_size": 32,
            "num_hidden_layers": 3,
            "num_attention_heads": 4,
            "intermediate_size": 48,
            "max_position_embeddings": 128,
            "initializer_range": 0.15,
            "local_attention": 6,  # so that even short texts reach out of it
            "global_attn_every_n_layers": 2,
            "cls_token_id": 2,
            "sep_token_id": 3,
        },
    ),
    "mpnet": Tiny(tiny_roberta_tokenizer, _BERT | {"max_position_embeddings": 130}, _NO_POOLER),
    "roberta": Tiny(tiny_roberta_tokenizer, _ROBERTA, _NO_POOLER),
    "xlm-roberta": Tiny(tiny_roberta_tokenizer, _ROBERTA, _NO_POOLER),
    "gpt2": Tiny(tiny_gpt2_tokenizer, _GPT),
    "llama": Tiny(tiny_gpt2_tokenizer, _LLAMA),
    "qwen3": Tiny(tiny_gpt2_tokenizer, _LLAMA | {"head_dim": 16}),
    "mistral": Tiny(tiny_gpt2_tokenizer, _LLAMA | {"sliding_window": 6}),  # so that even short texts reach out of it
    "gemma": Tiny(tiny_gpt2_tokenizer, _LLAMA | {"num_key_value_heads": 1, "head_dim": 16}),
    "glm": Tiny(tiny_gpt2_tokenizer, _LLAMA | {"head_dim": 8, "attention_bias": True}),
    "t5": Tiny(
        tiny_t5_tokenizer,
        {
            "d_model": 32,
            "d_kv": 8,
            "d_ff": 64,
            "num_layers": 3,
            "num_decoder_layers": 2,
            "num_heads": 4,
            "relative_attention_num_buckets": 8,
            "relative_attention_max_distance": 12,
            "initializer_factor": 1.5,
            "decoder_start_token_id": 0,
        },
    ),
    "bart": Tiny(
        tiny_roberta_tokenizer,
        {
            "d_model": 32,
            "encoder_layers": 3,
            "decoder_layers": 2,
            "encoder_attention_heads": 4,
            "decoder_attention_heads": 4,
            "encoder_ffn_dim": 64,
            "decoder_ffn_dim": 64,
            "max_position_embeddings": 128,
            "init_std": 0.15,
            "scale_embedding": True,
            "decoder_start_token_id": 2,
            "forced_eos_token_id": None,
        },
    ),
    "clip_text_model": Tiny(tiny_roberta_tokenizer, _CLIP),
    "clip_vision_model": Tiny(None, _CLIP | _IMAGES),
    "vit": Tiny(None, _GPT | _IMAGES | {"intermediate_size": 48}, _NO_POOLER),
}
"""One entry for every key of `foreword.backbones.FAMILIES`."""

_LANGUAGE_MODELS = {
    "encoder": AutoModelForMaskedLM,
    "decoder": AutoModelForCausalLM,
    "encoder-decoder": AutoModelForSeq2SeqLM,
}


def tiny_backbone_folder(family: str, folder: Path, *, language_model: bool = False, **changes: Any) -> Path:
    """Write a tiny model with random weights and its tokenizer, as `save_pretrained` does.

    The weights are larger than a fresh model's, and no bias is zero, so that nothing that is left
    out or added by mistake hides below rounding.

    Args:
        family: a key of `TINY`.
        folder: where to; made if it is not there.
        language_model: with its vocabulary head.
        **changes: values of the model's config to set otherwise.
    """
    tiny = TINY[family]
    tokenizer = None if tiny.tokenizer is None else tiny.tokenizer()
    ids = {} if tokenizer is None else _ids(tokenizer)
    config = AutoConfig.for_model(family, **(ids | dict(tiny.sizes) | changes))
    kind = _LANGUAGE_MODELS[FAMILIES[family].kind] if language_model else AutoModel
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(len(family))
        model = kind.from_config(config, dtype=torch.float32, **({} if language_model else tiny.options))
        with torch.no_grad():
            for parameter in model.parameters():
                if parameter.dim() == 1:
                    parameter.add_(torch.randn_like(parameter) * 0.1)
    model.save_pretrained(folder)
    if tokenizer is not None:
        tokenizer.save_pretrained(folder)
    return folder


def _ids(tokenizer: PreTrainedTokenizerFast) -> dict[str, int | None]:
    """What a config says of a tokenizer."""
    return {
        "vocab_size": len(tokenizer),
        "pad_token_id": tokenizer.pad_token_id,
        "bos_token_id": tokenizer.bos_token_id if tokenizer.cls_token_id is None else tokenizer.cls_token_id,
        "eos_token_id": tokenizer.eos_token_id if tokenizer.sep_token_id is None else tokenizer.sep_token_id,
    }


@cache
def _scratch() -> tempfile.TemporaryDirectory[str]:
    """A folder that lives as long as the process."""
    return tempfile.TemporaryDirectory(prefix="foreword-tiny-")


@cache
def _folder(family: str, language_model: bool, changes: str) -> Path:
    name = f"{family}-lm" if language_model else family
    folder = Path(tempfile.mkdtemp(dir=_scratch().name)) / name
    return tiny_backbone_folder(family, folder, language_model=language_model, **json.loads(changes))


def tiny_backbone(
    family: str = "bert", *, dtype: torch.dtype = torch.float32, language_model: bool = False, **changes: Any
) -> Backbone:
    """A fresh `Backbone` of a family, loaded as any other; its files are written once per process.

    Args:
        family: a key of `TINY`.
        dtype: of its weights.
        language_model: with its vocabulary head.
        **changes: values of the model's config to set otherwise.
    """
    folder = _folder(family, language_model, json.dumps(changes, sort_keys=True))
    return load_backbone(str(folder), dtype=dtype, language_model=language_model)
