"""Adapters of HF PEFT: PREFIX_TUNING, PROMPT_TUNING and P_TUNING, in both directions.

An adapter is a folder with ``adapter_config.json`` and ``adapter_model.safetensors``: one tensor
``prompt_embeddings``, folded already, and the trained head under its name in the `transformers` model.

PEFT hands a prefix to the model as a cache of P tokens, so that it counts the text's positions from P
on. Learned positions are then others, and rotary ones turn the queries away from the prefix. So only
prompts with ``shift_positions`` are the same function on both sides.
"""

from foreword.exchange.peft.reading import read_peft
from foreword.exchange.peft.writing import write_peft

__all__ = ["read_peft", "write_peft"]
