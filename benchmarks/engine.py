"""What many tasks on one model cost: with ever more tasks, a shared trunk, or too little memory.

    python benchmarks/engine.py [--only tasks,trunk,budget,offline] [--rounds 15] [--threads 2] [--smoke]

What a mixed batch costs beside the bare model is in the suite (suite/serving_batch).

Contenders take turns in every round, so that a noisy machine disturbs all. Times are seconds; a ratio is the median of
the rounds' own ratios. Results go to
benchmarks/results/engine/ (--smoke: few rounds of small sizes, written to the folder given with --out).
"""

from __future__ import annotations

import argparse
import json
import platform
import random
import tempfile
from collections.abc import Callable, Mapping
from functools import partial
from hashlib import sha256
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

import foreword as fw
from foreword.artifacts.files import SERVED
from foreword.artifacts.format import CARD, MANIFEST, Artifact
from foreword.artifacts.tensors import served_names, write_tensors
from foreword.cli.predict import predict
from foreword.data.batching import sorted_batches
from foreword.data.sources import Source
from foreword.inference.engine import Engine
from foreword.inference.forward import most_tokens
from foreword.registry import Registry
from suite.pretrained import BACKBONE
from suite.serving_batch.rows import (
    ITEMS,
    LENGTH,
    PROMPT,
    ROWS,
    WORDS,
    base_artifacts,
    jobs_of,
    requests,
    variants,
)
from suite.timing import alternated, ratio, resident_memory, shown

HERE = Path(__file__).resolve().parent


def tasks(backbone: fw.Backbone, bases: Mapping[str, Artifact], options: Any) -> dict[str, Any]:
    """1,024 requests over ever more tasks, in batches of 64."""
    counts = (1, 4, 16) if options.smoke else (1, 8, 32, 128, 512, 1024)
    total = 64 if options.smoke else 1024
    artifacts = variants({"classification": bases["classification"]}, max(counts))
    engine, contenders = Engine(backbone, artifacts), {}
    for count in counts:
        names = [f"task-{n % count}" for n in range(total)]
        random.Random(1).shuffle(names)
        jobs = jobs_of(engine, requests(artifacts, names, random.Random(2)))
        blocks = [jobs[i : i + ROWS] for i in range(0, total, ROWS)]
        contenders[str(count)] = lambda blocks=blocks: [engine.run(block) for block in blocks]
    times = alternated(contenders, max(options.rounds // 5, 2))
    per_second = {count: total / min(found) for count, found in times.items()}
    return {
        "requests": total,
        "requests per second, best round": per_second,
        "slowest / fastest": min(per_second.values()) / max(per_second.values()),
        "ratio to one task": {count: ratio(found, times["1"]) for count, found in times.items()},
    }


def trunk(backbone: fw.Backbone, folder: Path, options: Any) -> dict[str, Any]:
    """One text for 8 tasks with prompts in the upper half of the layers, and 8 texts for 8 tasks each."""
    upper = f"{backbone.depth // 2}-{backbone.depth - 1}"
    bases = base_artifacts(backbone, folder / "upper", layers=upper)
    artifacts = variants({"classification": bases["classification"]}, 8)
    engine, found = Engine(backbone, artifacts), {}
    for texts in (1, 8):
        chance = random.Random(texts)
        items = [requests(artifacts, ["task-0"], chance)[0][1] for _ in range(texts)]
        others = [requests(artifacts, ["task-0"], chance)[0][1] for _ in range(texts * 8)]
        same = jobs_of(engine, [(name, item) for item in items for name in artifacts])
        apart = jobs_of(engine, [(f"task-{n % 8}", item) for n, item in enumerate(others)])
        contenders = {
            "same text": lambda same=same: engine.run(same),
            "other texts": lambda apart=apart: engine.run(apart),
        }
        times = alternated(contenders, options.rounds)
        found[f"{texts} x 8 rows"] = {"seconds": times, "ratio": ratio(times["same text"], times["other texts"])}
    return {"layers": upper, **found}


def publish(registry: Registry, artifacts: Mapping[str, Artifact], folder: Path) -> None:
    """Write every artifact as a folder and add it."""
    for name, artifact in artifacts.items():
        place = folder / "one"
        place.mkdir(parents=True, exist_ok=True)
        write_tensors(served_names(artifact.head, artifact.prompt), place / SERVED)
        (place / CARD).write_text(name)
        written = (place / SERVED).read_bytes()
        entry = {"sha256": sha256(written).hexdigest(), "bytes": len(written)}
        manifest = artifact.manifest.model_dump(mode="json") | {"files": {SERVED: entry}}
        (place / MANIFEST).write_text(json.dumps(manifest))
        registry.add(place, name)


def budget(backbone: fw.Backbone, bases: Mapping[str, Artifact], folder: Path, options: Any) -> dict[str, Any]:
    """1,000 tasks in a registry, asked at random, where all fit, half do, and 200 MB do."""
    count, total = (12, 64) if options.smoke else (1000, 1024)
    registry = Registry(folder / "registry", create=True)
    artifacts = variants({"classification": bases["classification"]}, count)
    publish(registry, artifacts, folder)
    names = list(artifacts)
    asked = requests(artifacts, random.Random(3).choices(names, k=total), random.Random(4))
    del artifacts
    before, found, contenders = resident_memory(), {}, {}
    probe = Engine(backbone, registry)
    probe.load(probe.resolve(names[0]))
    one = probe.stats().resident_bytes
    del probe
    limit = 4 * one if options.smoke else 200_000_000
    engines = {"200 MB": Engine(backbone, registry, budget=limit)}
    engines["200 MB"].predict(asked)
    stats = engines["200 MB"].stats()
    found["bytes per task"], found["tasks"], found["budget"] = one, count, limit
    found["resident bytes"], found["memory of the process grew by"] = stats.resident_bytes, resident_memory() - before
    engines |= {"half fit": Engine(backbone, registry, budget=one * count // 2), "all fit": Engine(backbone, registry)}
    for name, engine in engines.items():
        contenders[name] = lambda engine=engine: engine.predict(asked)
    times = alternated(contenders, max(options.rounds // 5, 2))
    found["seconds"] = times
    found["throughput to all fit"] = {name: 1 / ratio(times[name], times["all fit"]) for name in engines}
    found["hits and misses"] = {name: (e.stats().hits, e.stats().misses) for name, e in engines.items()}
    return found


def mixed_lengths(artifacts: Mapping[str, Artifact], count: int, chance: random.Random) -> list[dict[str, Any]]:
    """Lines of a file to predict on: texts of 8 to 250 words, most of them short, each with the task that is asked."""
    found = []
    for name in chance.choices(list(artifacts), k=count):
        words = chance.choices(WORDS, k=min(max(round(chance.lognormvariate(3.0, 0.8)), 8), 250))
        found.append({"task": name, **ITEMS[artifacts[name].task.name](words)})
    return found


def by_hand(backbone: fw.Backbone, file: Path) -> int:
    """The bare model over the texts of a file: tokenized in two calls, single texts and pairs, and batched by length.

    Returns:
        Tokens.
    """
    items = [json.loads(line) for line in file.read_text().splitlines()]
    single = [item["text"] if "text" in item else " ".join(item["tokens"]) for item in items if "context" not in item]
    pairs = [(item["question"], item["context"]) for item in items if "context" in item]
    read = partial(backbone.tokenizer, truncation=True, max_length=backbone.max_length)
    rows = [ids for texts in (single, pairs) for ids in read(texts)["input_ids"]]
    lengths = list(map(len, rows))
    with torch.inference_mode():
        for numbers in sorted_batches(lengths, ROWS, most_tokens=most_tokens(backbone.device)):
            longest = max(lengths[i] for i in numbers)
            gaps = [[0] * (longest - lengths[i]) for i in numbers]
            ids = torch.tensor([rows[i] + gap for i, gap in zip(numbers, gaps, strict=True)])
            mask = torch.tensor([[1] * lengths[i] + gap for i, gap in zip(numbers, gaps, strict=True)])
            backbone(ids, mask)
    return sum(lengths)


def offline(backbone: fw.Backbone, bases: Mapping[str, Artifact], folder: Path, options: Any) -> dict[str, Any]:
    """A file of texts of mixed lengths for 16 tasks of three kinds, from lines to lines, beside the bare model."""
    count = 64 if options.smoke else 3000
    registry, artifacts = Registry(folder / "offline", create=True), variants(bases, 16)
    publish(registry, artifacts, folder)
    lines = mixed_lengths(artifacts, count, random.Random(5))
    file, answers = folder / "many.jsonl", folder / "answers.jsonl"
    file.write_text("".join(json.dumps(line) + "\n" for line in lines))
    engine = Engine(backbone, registry)

    def stream() -> None:
        for _ in engine.stream(Source(files=(str(file),)).records()):
            pass

    def command() -> None:
        predict(registry=folder / "offline", input=str(file), output=str(answers), backbone=BACKBONE)

    contenders: dict[str, Callable[[], Any]] = {
        "bare model, by hand": lambda: by_hand(backbone, file),
        "Engine.stream": stream,
        "foreword predict, model loaded anew": command,
    }
    times = alternated(contenders, max(options.rounds // 5, 2))
    assert len(answers.read_text().splitlines()) == count
    return {
        "texts": count,
        "tokens": by_hand(backbone, file),
        "seconds": times,
        "speed to the bare model": {name: 1 / ratio(times[name], times["bare model, by hand"]) for name in contenders},
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="tasks,trunk,budget,offline")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--out", type=Path, default=HERE / "results" / "engine")
    parser.add_argument("--smoke", action="store_true")
    options = parser.parse_args()
    if options.smoke:
        options.rounds = 2
        if options.out == HERE / "results" / "engine":
            options.out = Path(tempfile.mkdtemp(prefix="foreword-engine-"))
    torch.set_num_threads(options.threads)
    backbone = fw.load_backbone(BACKBONE)
    options.out.mkdir(parents=True, exist_ok=True)
    setting = {
        "backbone": BACKBONE, "rows": ROWS, "tokens": LENGTH, "prompt": PROMPT, "rounds": options.rounds,
        "threads": options.threads, "processor": platform.machine(), "device": str(backbone.device),
        "versions": {name: version(name) for name in ("torch", "transformers", "peft")}, "smoke": options.smoke,
    }  # fmt: skip
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        bases = base_artifacts(backbone, folder / "base")
        runs: dict[str, Callable[[], dict[str, Any]]] = {
            "tasks": lambda: tasks(backbone, bases, options),
            "trunk": lambda: trunk(backbone, folder, options),
            "budget": lambda: budget(backbone, bases, folder, options),
            "offline": lambda: offline(backbone, bases, folder, options),
        }
        for name in options.only.split(","):
            result = {"what": DOCS[name], "setting": setting, **runs[name]()}
            (options.out / f"{name}.json").write_text(json.dumps(result, indent=1) + "\n")
            text = shown(name, result)
            (options.out / f"{name}.md").write_text(text)
            print(text, flush=True)


DOCS = {function.__name__: str(function.__doc__) for function in (tasks, trunk, budget, offline)}

if __name__ == "__main__":
    main()
