"""`adapters` on rows from standard input: prefix tuning under `BatchSplit`, and its own bare model.

Told on the last line of standard output as JSON. It knows nothing of Foreword, whose transformers it cannot share.
"""

from __future__ import annotations

import json
import sys
import time
from statistics import median

import adapters
import torch
import transformers
from adapters import AutoAdapterModel, PrefixTuningConfig
from adapters.composition import BatchSplit

given = json.load(sys.stdin)
torch.set_num_threads(given["threads"])
rows, tasks = given["rows"], given["tasks"]
longest = max(map(len, rows))
ids = torch.tensor([row + row[: longest - len(row)] for row in rows])
mask = torch.ones_like(ids)


def model():
    return AutoAdapterModel.from_pretrained(given["folder"]).eval()


bare, split = model(), model()
names = [f"task-{number}" for number in range(tasks)]
for name in names:
    split.add_adapter(name, config=PrefixTuningConfig(prefix_length=given["prompt"], flat=True))
per_task = len(rows) // tasks
split.set_active_adapters(BatchSplit(*names, batch_sizes=[per_task] * tasks))
times = {"bare model": [], "BatchSplit": []}
with torch.inference_mode():
    for number in range(given["rounds"] + 1):
        for name, one in (("bare model", bare), ("BatchSplit", split)):
            began = time.perf_counter()
            one(input_ids=ids, attention_mask=mask)
            if number:
                times[name].append(time.perf_counter() - began)
print(
    json.dumps(
        {
            "seconds": times,
            "ratio": median(ours / theirs for theirs, ours in zip(*times.values(), strict=True)),
            "versions": {"adapters": adapters.__version__, "transformers": transformers.__version__},
        }
    )
)
