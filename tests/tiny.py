"""Small real tokenizers and backbones, made on the spot: no network, and the same ones on every run."""

from __future__ import annotations

import re
import tempfile
from functools import cache
from itertools import product
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import AutoConfig, AutoModel, PreTrainedTokenizerFast

from foreword.backbones import Backbone, load_backbone

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


_TOKENIZERS = {"bert": tiny_bert_tokenizer, "electra": tiny_bert_tokenizer}


def tiny_backbone_folder(family: str, folder: Path, **changes: Any) -> Path:
    """Write a tiny model with random weights and its tokenizer, as `save_pretrained` does.

    The weights are larger than a fresh model's, and no bias is zero, so that nothing that is left
    out or added by mistake hides below rounding.

    Args:
        family: a key of `foreword.backbones.FAMILIES`.
        folder: where to; made if it is not there.
        **changes: values of the model's config to set otherwise.
    """
    tokenizer = _TOKENIZERS.get(family, tiny_roberta_tokenizer)()
    sizes: dict[str, Any] = {
        "vocab_size": len(tokenizer),
        "hidden_size": 32,
        "num_hidden_layers": 3,
        "num_attention_heads": 4,
        "intermediate_size": 64,
        "hidden_dropout_prob": 0.1,
        "attention_probs_dropout_prob": 0.1,
        "max_position_embeddings": 128,
        "initializer_range": 0.15,
        "pad_token_id": tokenizer.pad_token_id,
        "bos_token_id": tokenizer.cls_token_id,
        "eos_token_id": tokenizer.sep_token_id,
    }
    if family == "electra":
        sizes["embedding_size"] = 16
    if family not in _TOKENIZERS:
        sizes |= {"max_position_embeddings": 128 + tokenizer.pad_token_id + 1, "type_vocab_size": 1}
    config = AutoConfig.for_model(family, **(sizes | changes))
    options = {} if family == "electra" else {"add_pooling_layer": False}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(len(family))
        model = AutoModel.from_config(config, dtype=torch.float32, **options)
        with torch.no_grad():
            for parameter in model.parameters():
                if parameter.dim() == 1:
                    parameter.add_(torch.randn_like(parameter) * 0.1)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@cache
def _scratch() -> tempfile.TemporaryDirectory[str]:
    """A folder that lives as long as the process."""
    return tempfile.TemporaryDirectory(prefix="foreword-tiny-")


@cache
def _folder(family: str) -> Path:
    return tiny_backbone_folder(family, Path(_scratch().name) / family)


def tiny_backbone(family: str = "bert", *, dtype: torch.dtype = torch.float32) -> Backbone:
    """A fresh `Backbone` of a family, loaded as any other; its files are written once per process."""
    return load_backbone(str(_folder(family)), dtype=dtype)
