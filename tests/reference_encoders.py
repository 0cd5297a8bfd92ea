"""Encoders written out by hand in float64, one row at a time and without any padding.

They share no line with what they judge: no model class, no fused attention, no mask. Each follows its paper.
"""

from __future__ import annotations

import json
import math
from pathlib import Path

import torch
from safetensors.torch import load_file

from foreword.injection import Site


def softmax(scores):
    weights = (scores - scores.amax(-1, keepdim=True)).exp()
    return weights / weights.sum(-1, keepdim=True)


def attend(query, key, value, scale, bias, pair):
    """``(H, T, E)`` from keys of the text with a bias, and those of a prefix, which has none."""
    scores = query @ key.mT * scale + bias
    if pair is None:
        return softmax(scores) @ value
    beside = query @ pair.key.mT * scale
    if pair.gate is not None:
        return softmax(scores) @ value + pair.gate.tanh()[:, None, None] * (softmax(beside) @ pair.value)
    weights = softmax(torch.cat([beside, scores], -1))
    length = pair.key.shape[1]
    return weights[..., :length] @ pair.value + weights[..., length:] @ value


def gelu(x):
    return x * 0.5 * (1 + torch.erf(x / math.sqrt(2)))


class Rows:
    """What the encoders share.

    Args:
        folder: written by `save_pretrained`.
    """

    eps = "layer_norm_eps"
    words = "embeddings.word_embeddings.weight"
    first_position = 0

    def __init__(self, folder):
        self.config = json.loads((Path(folder) / "config.json").read_text())
        self.weights = {name: t.double() for name, t in load_file(Path(folder) / "model.safetensors").items()}
        self.heads = self.config.get("num_attention_heads", self.config.get("n_heads"))
        self.layers = self.config.get("num_hidden_layers", self.config.get("n_layers"))

    def row(self, embedded, types, prefix, deltas=None, shift=0):
        """Hidden states ``(S, D)``.

        Args:
            embedded: ``(S, W)``, the row's tokens and prompt vectors, without positions and types.
            types: ``(S,)``.
            prefix: site -> keys and values.
            deltas: layer -> ``(S, D)``, added to what the layer is given.
            shift: added to the numbers of the positions.
        """
        self.prefix, self.deltas = prefix, deltas or {}
        return self.run(embedded, types, torch.arange(len(embedded)) + self.first_position + shift)

    def given(self, x, layer):
        return x + self.deltas[layer] if layer in self.deltas else x

    def pair(self, layer):
        return self.prefix.get(Site("encoder", layer))

    def linear(self, x, name):
        x = x @ self.weights[f"{name}.weight"].T
        return x + self.weights[f"{name}.bias"] if f"{name}.bias" in self.weights else x

    def norm(self, x, name):
        x = x - x.mean(-1, keepdim=True)
        x = (
            x
            / ((x**2).mean(-1, keepdim=True) + self.config.get(self.eps, 1e-12)).sqrt()
            * self.weights[f"{name}.weight"]
        )
        return x + self.weights[f"{name}.bias"] if f"{name}.bias" in self.weights else x

    def split(self, x):
        return x.reshape(len(x), self.heads, -1).permute(1, 0, 2)

    def attention(self, x, layer, names, bias=0.0):
        """``(T, H * E)`` with projections of these names, scaled by the root of E."""
        query, key, value = (self.split(self.linear(x, name)) for name in names)
        read = attend(query, key, value, 1 / math.sqrt(query.shape[-1]), bias, self.pair(layer))
        return read.permute(1, 0, 2).reshape(len(x), -1)

    def feed_forward(self, x, name):
        inner = self.linear(gelu(self.linear(x, f"{name}.intermediate.dense")), f"{name}.output.dense")
        return self.norm(x + inner, f"{name}.output.LayerNorm")


class Albert(Rows):
    def run(self, x, types, positions):
        x = x + self.weights["embeddings.token_type_embeddings.weight"][types]
        x = self.norm(x + self.weights["embeddings.position_embeddings.weight"][positions], "embeddings.LayerNorm")
        x = self.linear(x, "encoder.embedding_hidden_mapping_in")
        groups, inner = self.config["num_hidden_groups"], self.config["inner_group_num"]
        number = 0
        for layer in range(self.layers):
            for part in range(inner):
                name = f"encoder.albert_layer_groups.{layer * groups // self.layers}.albert_layers.{part}"
                x = self.layer(self.given(x, number), number, name)
                number += 1
        return x

    def layer(self, x, number, name):
        parts = [f"{name}.attention.{part}" for part in ("query", "key", "value")]
        read = self.linear(self.attention(x, number, parts), f"{name}.attention.dense")
        x = self.norm(x + read, f"{name}.attention.LayerNorm")
        inner = self.linear(x, f"{name}.ffn")
        inner = 0.5 * inner * (1 + torch.tanh(math.sqrt(2 / math.pi) * (inner + 0.044715 * inner**3)))
        return self.norm(x + self.linear(inner, f"{name}.ffn_output"), f"{name}.full_layer_layer_norm")


class DistilBert(Rows):
    def run(self, x, types, positions):
        x = self.norm(x + self.weights["embeddings.position_embeddings.weight"][positions], "embeddings.LayerNorm")
        for layer in range(self.layers):
            x, name = self.given(x, layer), f"transformer.layer.{layer}"
            parts = [f"{name}.attention.{part}" for part in ("q_lin", "k_lin", "v_lin")]
            read = self.linear(self.attention(x, layer, parts), f"{name}.attention.out_lin")
            x = self.norm(x + read, f"{name}.sa_layer_norm")
            inner = self.linear(gelu(self.linear(x, f"{name}.ffn.lin1")), f"{name}.ffn.lin2")
            x = self.norm(x + inner, f"{name}.output_layer_norm")
        return x


class ModernBert(Rows):
    eps, words = "norm_eps", "embeddings.tok_embeddings.weight"

    def run(self, x, types, positions):
        x = self.norm(x, "embeddings.norm")
        for layer in range(self.layers):
            x = self.given(x, layer)
            x = x + self.read(self.norm(x, f"layers.{layer}.attn_norm") if layer else x, layer, positions)
            inner, gate = self.linear(self.norm(x, f"layers.{layer}.mlp_norm"), f"layers.{layer}.mlp.Wi").chunk(2, -1)
            x = x + self.linear(gelu(inner) * gate, f"layers.{layer}.mlp.Wo")
        return self.norm(x, "final_norm")

    def read(self, x, layer, positions):
        kind = self.config["layer_types"][layer]
        query, key, value = map(self.split, self.linear(x, f"layers.{layer}.attn.Wqkv").chunk(3, -1))
        theta = self.config["rope_parameters"][kind]["rope_theta"]
        query, key = self.turned(query, positions, theta), self.turned(key, positions, theta)
        far = (positions[:, None] - positions).abs() > self.config["local_attention"] // 2
        bias = torch.zeros(far.shape, dtype=torch.float64)
        if kind == "sliding_attention":
            bias[far] = -math.inf
        read = attend(query, key, value, 1 / math.sqrt(query.shape[-1]), bias, self.pair(layer))
        return self.linear(read.permute(1, 0, 2).reshape(len(x), -1), f"layers.{layer}.attn.Wo")

    def turned(self, x, positions, theta):
        """Every pair of numbers turned by its angle: complex numbers, not the halves that the model swaps."""
        half = x.shape[-1] // 2
        angles = positions[:, None] * theta ** (-torch.arange(half, dtype=torch.float64) / half)
        turned = torch.complex(x[..., :half], x[..., half:]) * torch.polar(torch.ones_like(angles), angles)
        return torch.cat([turned.real, turned.imag], -1)


class MPNet(Rows):
    first_position = 2

    def run(self, x, types, positions):
        x = self.norm(x + self.weights["embeddings.position_embeddings.weight"][positions], "embeddings.LayerNorm")
        bias = torch.stack([torch.stack([self.bias(i - j) for j in range(len(x))], 1) for i in range(len(x))], 1)
        for layer in range(self.layers):
            x, name = self.given(x, layer), f"encoder.layer.{layer}"
            parts = [f"{name}.attention.attn.{part}" for part in "qkv"]
            read = self.linear(self.attention(x, layer, parts, bias), f"{name}.attention.attn.o")
            x = self.feed_forward(self.norm(x + read, f"{name}.attention.LayerNorm"), name)
        return x

    def bias(self, steps):
        """``(H,)`` for a query so many places behind a key: 16 buckets each way, 8 of one place each."""
        bucket = abs(steps)
        if bucket >= 8:
            bucket = min(8 + int(8 * math.log(bucket / 8) / math.log(128 / 8)), 15)
        return self.weights["encoder.relative_attention_bias.weight"][bucket + (16 if steps < 0 else 0)]


class Deberta(Rows):
    def run(self, x, types, positions):
        x = first = self.embed(x, types, positions)
        table, rows = self.relative(len(x))
        for layer in range(self.layers):
            x, name = self.given(x, layer), f"encoder.layer.{layer}"
            first = x if layer == 0 else first
            query, key, value, scale, bias = self.scored(x, f"{name}.attention.self", table, rows)
            read = attend(query, key, value, scale, bias, self.pair(layer)).permute(1, 0, 2).reshape(len(x), -1)
            read = self.linear(read, f"{name}.attention.output.dense")
            x = self.feed_forward(self.norm(x + read, f"{name}.attention.output.LayerNorm"), name)
            x = self.convolved(first, x) if layer == 0 and "encoder.conv.conv.weight" in self.weights else x
        return x

    def embed(self, x, types, positions):
        if self.config["position_biased_input"]:
            x = x + self.weights["embeddings.position_embeddings.weight"][positions]
        if self.config["type_vocab_size"]:
            x = x + self.weights["embeddings.token_type_embeddings.weight"][types]
        if "embeddings.embed_proj.weight" in self.weights:
            x = self.linear(x, "embeddings.embed_proj")
        return self.norm(x, "embeddings.LayerNorm")

    @property
    def span(self):
        widest = self.config.get("max_relative_positions", -1)
        return widest if widest > 0 else self.config["max_position_embeddings"]

    def relative(self, length):
        """Relative embeddings, and for every query and key the row of them."""
        rows = [[self.place(i - j) for j in range(length)] for i in range(length)]
        return self.weights["encoder.rel_embeddings.weight"], torch.tensor(rows)

    def place(self, steps):
        return min(max(steps + self.span, 0), 2 * self.span - 1)

    def scored(self, x, name, table, rows):
        query, key, value = self.linear(x, f"{name}.in_proj").reshape(len(x), self.heads, 3, -1).permute(2, 1, 0, 3)
        query = query + self.weights[f"{name}.q_bias"].reshape(self.heads, 1, -1)
        value = value + self.weights[f"{name}.v_bias"].reshape(self.heads, 1, -1)
        return query, key, value, *self.biased(query, key, table, rows, f"{name}.pos_proj", f"{name}.pos_q_proj")

    def biased(self, query, key, table, rows, position_key, position_query):
        """The scale of all scores, and those of positions: equation 4 of the paper, term by term."""
        kinds = self.config["pos_att_type"]
        scale = 1 / math.sqrt(query.shape[-1] * (1 + len(kinds)))
        bias = torch.zeros(self.heads, len(rows), len(rows), dtype=torch.float64)
        if "c2p" in kinds:
            keys = self.split(self.linear(table, position_key))[:, rows]  # (H, T, T, E)
            bias = bias + (query[:, :, None] * keys).sum(-1) * scale
        if "p2c" in kinds:
            queries = self.split(self.linear(table, position_query))[:, rows]
            bias = bias + (key[:, None] * queries).sum(-1) * scale
        return scale, bias


class DebertaV2(Deberta):
    @property
    def span(self):
        buckets = self.config.get("position_buckets", -1)
        return buckets if buckets > 0 else super().span

    def relative(self, length):
        table, rows = super().relative(length)
        return (self.norm(table, "encoder.LayerNorm") if "encoder.LayerNorm.weight" in self.weights else table), rows

    def place(self, steps):
        buckets, most = self.config.get("position_buckets", -1), super().span
        middle = buckets // 2
        if buckets > 0 and abs(steps) > middle:
            bucket = math.ceil(math.log(abs(steps) / middle) / math.log((most - 1) / middle) * (middle - 1)) + middle
            steps = bucket if steps > 0 else -bucket
        return super().place(steps)

    def scored(self, x, name, table, rows):
        query, key, value = (self.split(self.linear(x, f"{name}.{part}_proj")) for part in ("query", "key", "value"))
        shared = "" if self.config.get("share_att_key") else "pos_"
        names = (f"{name}.{shared}key_proj", f"{name}.{shared}query_proj")
        return query, key, value, *self.biased(query, key, table, rows, *names)

    def convolved(self, given, x):
        kernel = self.weights["encoder.conv.conv.weight"]  # (D, D, 3)
        blank = torch.zeros(1, given.shape[1], dtype=torch.float64)
        wide = torch.cat([blank, given, blank])
        mixed = sum(wide[place : place + len(given)] @ kernel[:, :, place].T for place in range(3))
        mixed = torch.tanh(mixed + self.weights["encoder.conv.conv.bias"])
        return self.norm(x + mixed, "encoder.conv.LayerNorm")


ROWS_OF = {
    "albert": Albert,
    "distilbert": DistilBert,
    "modernbert": ModernBert,
    "mpnet": MPNet,
    "deberta": Deberta,
    "deberta-v2": DebertaV2,
}
