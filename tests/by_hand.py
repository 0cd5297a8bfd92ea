"""Decoders, encoder-decoders and vision towers as their papers describe them: one row, no padding, no cache, float64.

Nothing here is shared with the library or with transformers but the files of the weights.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor

from foreword.backbones import Backbone
from foreword.injection import Anchor, InputPrompt, KeyValue, Prompt, Site

TEXTS = ("Anna visited London.", "It", "Nobody has never seen some cheap food in Germany.", "My sister wrote it.")
ROUNDS = {"llama", "qwen3", "mistral", "gemma", "glm", "t5"}
"""Families whose norms round to float32 inside, whatever they are given."""


def exactness(family: str) -> float:
    """How far a float64 backbone may be from what is here."""
    return 1e-9 if family not in ROUNDS else 2e-4 if family == "t5" else 2e-5  # T5's scores are not scaled down


class Weights:
    """A model's file, with the functions that all architectures are made of."""

    def __init__(self, backbone: Backbone) -> None:
        folder = Path(backbone.name)
        self.config = json.loads((folder / "config.json").read_text())
        self.family = self.config["model_type"]
        self.weights = {}
        for name, tensor in load_file(folder / "model.safetensors").items():
            self.weights[name.removeprefix("transformer.").removeprefix("model.")] = tensor.double()

    def linear(self, x: Tensor, name: str) -> Tensor:
        out = x @ self.weights[f"{name}.weight"].T
        return out + self.weights[f"{name}.bias"] if f"{name}.bias" in self.weights else out

    def layer_norm(self, x: Tensor, name: str) -> Tensor:
        eps = self.config.get("layer_norm_eps", self.config.get("layer_norm_epsilon", 1e-5))
        x = x - x.mean(-1, keepdim=True)
        x = x / ((x**2).mean(-1, keepdim=True) + eps).sqrt()
        return x * self.weights[f"{name}.weight"] + self.weights[f"{name}.bias"]

    def rms_norm(self, x: Tensor, name: str) -> Tensor:
        eps = self.config.get("rms_norm_eps", self.config.get("layer_norm_epsilon"))
        scale = self.weights[f"{name}.weight"] + (1 if self.family == "gemma" else 0)
        return x / ((x**2).mean(-1, keepdim=True) + eps).sqrt() * scale


def cut(x: Tensor, heads: int) -> Tensor:
    """``(T, H * E)`` to ``(H, T, E)``."""
    return x.reshape(x.shape[0], heads, -1).permute(1, 0, 2)


def attend(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    *,
    scale: float,
    open_: Tensor | None = None,
    pair: KeyValue | None = None,
    reads: Tensor | None = None,
    bias: Tensor | None = None,
) -> Tensor:
    """Attention of one row, with a prefix in front of the keys.

    Args:
        query: ``(H, T, E)``; key, value: ``(G, S, E)`` with G a divisor of H.
        scale: of the scores.
        open_: ``(T, S)``, True where a query sees a key; all by default.
        pair: the prefix.
        reads: ``(T,)``, True where a query sees the prefix; all by default.
        bias: ``(H, T, S)``, added to the scores.
    """
    groups = query.shape[0] // key.shape[0]

    def scores(keys: Tensor) -> Tensor:
        return torch.einsum("hte,hse->hts", query, keys.repeat_interleave(groups, 0)) * scale

    def mix(found: Tensor, values: Tensor) -> Tensor:
        shares = (found - found.amax(-1, keepdim=True)).exp()
        shares = shares / shares.sum(-1, keepdim=True)
        mixed = torch.einsum("hts,hse->the", shares, values.repeat_interleave(groups, 0))
        return mixed.reshape(mixed.shape[0], -1)

    of_text = scores(key) + (0 if bias is None else bias)
    if open_ is not None:
        of_text = of_text.masked_fill(~open_, -math.inf)
    if pair is None:
        return mix(of_text, value)
    of_prefix = scores(pair.key.double())
    if pair.gate is not None:
        size = value.shape[-1]
        gate = pair.gate.double().tanh().repeat_interleave(size)
        return mix(of_text, value) + gate * mix(of_prefix, pair.value.double())
    if reads is not None:
        of_prefix = of_prefix.masked_fill(~reads[None, :, None], -math.inf)
    return mix(torch.cat([of_prefix, of_text], -1), torch.cat([pair.value.double(), value], 1))


def gelu_tanh(x: Tensor) -> Tensor:
    return 0.5 * x * (1 + torch.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))


def gelu(x: Tensor) -> Tensor:
    return 0.5 * x * (1 + torch.erf(x / math.sqrt(2)))


def quick_gelu(x: Tensor) -> Tensor:
    return x * torch.sigmoid(1.702 * x)


class Decoder(Weights):
    """GPT-2, the Llama-like ones, and CLIP's text tower."""

    def row(self, embedded: Tensor, prompt: Prompt, source: int | None = None) -> Tensor:
        """Hidden states ``(S, D)`` of embeddings ``(S, D)``, of which the first ``source`` are given text."""
        self.places = torch.arange(len(embedded)) + (prompt.length if prompt.shift_positions else 0)
        distance = self.places[:, None] - self.places[None]
        self.open = (distance >= 0) & (distance < (self.config.get("sliding_window") or 1 << 30))
        self.reads = self.places - self.places[0] >= source - 1 if prompt.infix else None
        block = {"gpt2": self.gpt2_layer, "clip_text_model": self.clip_layer}.get(self.family, self.llama_layer)
        table = {"gpt2": "wpe.weight", "clip_text_model": "embeddings.position_embedding.weight"}.get(self.family)
        x = embedded if table is None else embedded + self.weights[table][self.places]
        for layer in range(3):
            x = block(x, layer, prompt.prefix.get(Site("decoder", layer)))
        last = {"gpt2": "ln_f", "clip_text_model": "final_layer_norm"}.get(self.family)
        return self.rms_norm(x, "norm") if last is None else self.layer_norm(x, last)

    def embed(self, ids: Tensor) -> Tensor:
        name = {"gpt2": "wte", "clip_text_model": "embeddings.token_embedding"}.get(self.family, "embed_tokens")
        scale = math.sqrt(self.config["hidden_size"]) if self.family == "gemma" else 1
        return self.weights[f"{name}.weight"][ids] * scale

    def logits(self, hidden: Tensor) -> Tensor:
        name = "lm_head.weight" if "lm_head.weight" in self.weights else None
        return hidden @ self.weights[name or ("wte.weight" if self.family == "gpt2" else "embed_tokens.weight")].T

    def gpt2_layer(self, x: Tensor, layer: int, pair: KeyValue | None) -> Tensor:
        def conv(y: Tensor, name: str) -> Tensor:
            return y @ self.weights[f"h.{layer}.{name}.weight"] + self.weights[f"h.{layer}.{name}.bias"]

        parts = conv(self.layer_norm(x, f"h.{layer}.ln_1"), "attn.c_attn").chunk(3, -1)
        query, key, value = (cut(part, self.config["n_head"]) for part in parts)
        scale = query.shape[-1] ** -0.5
        mixed = attend(query, key, value, scale=scale, open_=self.open, pair=pair, reads=self.reads)
        x = x + conv(mixed, "attn.c_proj")
        return x + conv(gelu_tanh(conv(self.layer_norm(x, f"h.{layer}.ln_2"), "mlp.c_fc")), "mlp.c_proj")

    def clip_layer(self, x: Tensor, layer: int, pair: KeyValue | None) -> Tensor:
        return clip_layer(self, x, layer, pair, self.open, self.reads)

    def llama_layer(self, x: Tensor, layer: int, pair: KeyValue | None) -> Tensor:
        config, name = self.config, f"layers.{layer}"
        y = self.rms_norm(x, f"{name}.input_layernorm")
        heads = (config["num_attention_heads"], config["num_key_value_heads"], config["num_key_value_heads"])
        query, key, value = (
            cut(self.linear(y, f"{name}.self_attn.{part}_proj"), count)
            for part, count in zip("qkv", heads, strict=True)
        )
        if self.family == "qwen3":
            query = self.rms_norm(query, f"{name}.self_attn.q_norm")
            key = self.rms_norm(key, f"{name}.self_attn.k_norm")
        query, key = self.turned(query), self.turned(key)
        scale = query.shape[-1] ** -0.5
        mixed = attend(query, key, value, scale=scale, open_=self.open, pair=pair, reads=self.reads)
        x = x + self.linear(mixed, f"{name}.self_attn.o_proj")
        y = self.rms_norm(x, f"{name}.post_attention_layernorm")
        if self.family == "glm":
            gate, up = self.linear(y, f"{name}.mlp.gate_up_proj").chunk(2, -1)
        else:
            gate, up = (self.linear(y, f"{name}.mlp.{part}_proj") for part in ("gate", "up"))
        gate = gelu_tanh(gate) if self.family == "gemma" else gate * torch.sigmoid(gate)
        return x + self.linear(gate * up, f"{name}.mlp.down_proj")

    def turned(self, x: Tensor) -> Tensor:
        """Rotary positions: pairs of numbers, seen as one complex number, turned by an angle that grows by place."""
        rotary = self.config["rope_parameters"]
        size = int(x.shape[-1] * rotary.get("partial_rotary_factor", 1))
        angles = self.places[:, None] * rotary["rope_theta"] ** (-torch.arange(0, size, 2).double() / size)
        turn = torch.polar(torch.ones_like(angles), angles)  # (T, size / 2)
        if self.family == "glm":  # neighbours are a pair
            pairs = torch.view_as_complex(x[..., :size].reshape(*x.shape[:-1], -1, 2).contiguous())
            return torch.cat([torch.view_as_real(pairs * turn).flatten(-2), x[..., size:]], -1)
        pairs = torch.complex(x[..., : size // 2], x[..., size // 2 :]) * turn
        return torch.cat([pairs.real, pairs.imag], -1)


def clip_layer(
    model: Weights, x: Tensor, layer: int, pair: KeyValue | None, open_: Tensor | None, reads: Tensor | None
) -> Tensor:
    name = f"encoder.layers.{layer}"
    y = model.layer_norm(x, f"{name}.layer_norm1")
    query, key, value = (cut(model.linear(y, f"{name}.self_attn.{part}_proj"), 4) for part in "qkv")
    mixed = attend(query, key, value, scale=query.shape[-1] ** -0.5, open_=open_, pair=pair, reads=reads)
    x = x + model.linear(mixed, f"{name}.self_attn.out_proj")
    inner = quick_gelu(model.linear(model.layer_norm(x, f"{name}.layer_norm2"), f"{name}.mlp.fc1"))
    return x + model.linear(inner, f"{name}.mlp.fc2")


class Images(Weights):
    """ViT and CLIP's vision tower."""

    def row(self, pixels: Tensor, prompt: Prompt) -> Tensor:
        """Hidden states ``(1 + patches, D)`` of an image ``(channels, height, width)``."""
        size, vit = self.config["patch_size"], self.family == "vit"
        kernel = "patch_embeddings.projection" if vit else "patch_embedding"
        table = self.weights[f"embeddings.{kernel}.weight"]
        grid = pixels.double().reshape(pixels.shape[0], 3, size, 3, size).permute(1, 3, 0, 2, 4)
        x = grid.reshape(9, -1) @ table.reshape(table.shape[0], -1).T
        x = x + self.weights.get(f"embeddings.{kernel}.bias", 0)
        first = self.weights["embeddings.cls_token" if vit else "embeddings.class_embedding"].reshape(1, -1)
        places = self.weights[f"embeddings.{'position_embeddings' if vit else 'position_embedding.weight'}"]
        x = torch.cat([first, x]) + places.reshape(10, -1)
        if not vit:
            x = self.layer_norm(x, "pre_layrnorm")
        for layer in range(3):
            pair = prompt.prefix.get(Site("encoder", layer))
            x = self.vit_layer(x, layer, pair) if vit else clip_layer(self, x, layer, pair, None, None)
        return self.layer_norm(x, "layernorm") if vit else x

    def vit_layer(self, x: Tensor, layer: int, pair: KeyValue | None) -> Tensor:
        name = f"encoder.layer.{layer}"
        y = self.layer_norm(x, f"{name}.layernorm_before")
        parts = (self.linear(y, f"{name}.attention.attention.{part}") for part in ("query", "key", "value"))
        query, key, value = (cut(part, 4) for part in parts)
        mixed = attend(query, key, value, scale=query.shape[-1] ** -0.5, pair=pair)
        x = x + self.linear(mixed, f"{name}.attention.output.dense")
        inner = gelu(self.linear(self.layer_norm(x, f"{name}.layernorm_after"), f"{name}.intermediate.dense"))
        return x + self.linear(inner, f"{name}.output.dense")


class EncoderDecoder(Weights):
    """T5, classic and 1.1, and BART."""

    def embed(self, ids: Tensor) -> Tensor:
        scale = math.sqrt(self.config["d_model"]) if self.config.get("scale_embedding") else 1
        return self.weights["shared.weight"][ids] * scale

    def encode(self, embedded: Tensor, prompt: Prompt) -> Tensor:
        """Hidden states ``(S, D)``."""
        return self.stack("encoder", embedded, prompt, None)

    def decode(self, ids: Tensor, encoded: Tensor, prompt: Prompt) -> Tensor:
        """Hidden states ``(U, D)`` of the decoder's tokens, the one it starts from being the first."""
        return self.stack("decoder", self.embed(ids), prompt, encoded)

    def logits(self, hidden: Tensor) -> Tensor:
        if self.family == "bart":
            return hidden @ self.weights["shared.weight"].T + self.weights["final_logits_bias"][0]
        if self.config.get("scale_decoder_outputs", self.config["tie_word_embeddings"]):
            hidden = hidden / math.sqrt(self.config["d_model"])
        return hidden @ self.weights.get("lm_head.weight", self.weights["shared.weight"]).T

    def stack(self, name: str, x: Tensor, prompt: Prompt, encoded: Tensor | None) -> Tensor:
        causal = torch.ones(len(x), len(x)).tril().bool() if name == "decoder" else None
        if self.family == "bart":
            x = x + self.weights[f"{name}.embed_positions.weight"][2 : 2 + len(x)]
            x = self.layer_norm(x, f"{name}.layernorm_embedding")
        block = self.bart_layer if self.family == "bart" else self.t5_layer
        for layer in range(3 if name == "encoder" else 2):
            x = block(name, layer, x, prompt, causal, encoded)
        return x if self.family == "bart" else self.rms_norm(x, f"{name}.final_layer_norm")

    def bart_layer(self, stack, layer, x, prompt, causal, encoded):
        name = f"{stack}.layers.{layer}"

        def attention(part, y, z, open_, site):
            query, key, value = (
                cut(self.linear(given, f"{name}.{part}.{which}_proj"), 4)
                for which, given in zip("qkv", (y, z, z), strict=True)
            )
            mixed = attend(
                query, key, value, scale=query.shape[-1] ** -0.5, open_=open_, pair=prompt.prefix.get(Site(site, layer))
            )
            return self.layer_norm(y + self.linear(mixed, f"{name}.{part}.out_proj"), f"{name}.{part}_layer_norm")

        x = attention("self_attn", x, x, causal, stack)
        if encoded is not None:
            x = attention("encoder_attn", x, encoded, None, "cross")
        inner = self.linear(gelu(self.linear(x, f"{name}.fc1")), f"{name}.fc2")
        return self.layer_norm(x + inner, f"{name}.final_layer_norm")

    def t5_layer(self, stack, layer, x, prompt, causal, encoded):
        name = f"{stack}.block.{layer}.layer"

        def attention(number, part, x, z, open_, site, bias):
            y = self.rms_norm(x, f"{name}.{number}.layer_norm")
            query, key, value = (
                cut(self.linear(given, f"{name}.{number}.{part}.{which}"), 4)
                for which, given in zip("qkv", (y, *[y if z is None else z] * 2), strict=True)
            )
            pair = prompt.prefix.get(Site(site, layer))
            mixed = attend(query, key, value, scale=1.0, open_=open_, pair=pair, bias=bias)
            return x + self.linear(mixed, f"{name}.{number}.{part}.o")

        x = attention(0, "SelfAttention", x, None, causal, stack, self.t5_bias(stack, len(x)))
        if encoded is not None:
            x = attention(1, "EncDecAttention", x, encoded, None, "cross", None)
        number = 1 if encoded is None else 2
        y, feed = self.rms_norm(x, f"{name}.{number}.layer_norm"), f"{name}.{number}.DenseReluDense"
        if self.config["is_gated_act"]:
            inner = gelu_tanh(self.linear(y, f"{feed}.wi_0")) * self.linear(y, f"{feed}.wi_1")
        else:
            inner = self.linear(y, f"{feed}.wi").clamp(min=0)
        return x + self.linear(inner, f"{feed}.wo")

    def t5_bias(self, stack: str, length: int) -> Tensor:
        """``(H, T, T)``: one learned number per head and bucket of distances."""
        table = self.weights[f"{stack}.block.0.layer.0.SelfAttention.relative_attention_bias.weight"]
        buckets = [[self.t5_bucket(stack, key - query) for key in range(length)] for query in range(length)]
        return table[torch.tensor(buckets)].permute(2, 0, 1)

    def t5_bucket(self, stack: str, ahead: int) -> int:
        count, most = (self.config[f"relative_attention_{name}"] for name in ("num_buckets", "max_distance"))
        start = 0
        if stack == "encoder":  # half of the buckets look ahead
            count //= 2
            start, distance = (count if ahead > 0 else 0), abs(ahead)
        else:
            distance = max(-ahead, 0)
        near = count // 2
        if distance < near:
            return start + distance
        return start + min(
            count - 1, near + int(math.log(distance / near) / math.log(most / near) * (count - near) + 1e-9)
        )


def random_prompt(
    backbone: Backbone,
    length: int,
    *,
    seed: int,
    sites: Iterable[Site] | None = None,
    front: int = 0,
    end: int = 0,
    gated: bool = False,
    dtype: torch.dtype = torch.float64,
    **how: bool,
) -> Prompt:
    """A prompt of random numbers that can be differentiated: a prefix, and vectors before and behind the text."""
    generator = torch.Generator().manual_seed(seed)

    def numbers(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64).to(dtype).requires_grad_()

    prefix = {}
    for site in backbone.sites if sites is None else sites:
        shape = backbone.sites[site]
        pair = (numbers(shape.heads, length, shape.head_size) for _ in range(2))
        if length:
            prefix[site] = KeyValue(*pair, numbers(shape.query_heads) if gated else None)
    inputs = None
    if front + end:
        anchors = (Anchor.FRONT,) * front + (Anchor.END,) * end
        inputs = InputPrompt(numbers(front + end, backbone.embedding_size), anchors)
    return Prompt(prefix, inputs, **how)


def tensors(*prompts: Prompt) -> list[Tensor]:
    """Every tensor of some prompts."""
    found: list[Tensor] = []
    for prompt in prompts:
        prompt.map(lambda tensor: found.append(tensor) or tensor)
    return found


def surrounded(model: Decoder | EncoderDecoder, ids: Tensor, prompt: Prompt) -> tuple[Tensor, slice]:
    """Embeddings of a text between the vectors of its prompt, and where the text is."""
    if prompt.inputs is None:
        return model.embed(ids), slice(0, len(ids))
    front = sum(anchor == Anchor.FRONT for anchor in prompt.inputs.anchors)
    vectors = prompt.inputs.vectors.double()
    return torch.cat([vectors[:front], model.embed(ids), vectors[front:]]), slice(front, front + len(ids))


def unpadded(ids: Tensor, mask: Tensor) -> Iterator[Tensor]:
    """The real tokens of each row."""
    return (row[real.bool()] for row, real in zip(ids, mask, strict=True))
