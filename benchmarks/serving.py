"""The server under load: throughput, overload, wrong answers, hot swaps, and whatever schemathesis can think of.

    python benchmarks/serving.py [--only throughput,overload,canaries,swaps,schemathesis] [--smoke]

A real `foreword serve` in a process of its own, on MiniLM and a registry that is made on the spot: classification
tasks whose labels nobody else has, entity and question tasks beside them. The client runs on the same machine, so
what it computes is taken from the server; run it where nothing else runs. Results go to
benchmarks/results/serving/NAME.json, one file for each part, with versions, the machine and the seed.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import platform
import random
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from statistics import median
from typing import Any

import torch

import foreword as fw
from foreword.backbones import Backbone, load_backbone
from foreword.inference.engine import Engine
from foreword.registry import Registry
from http_load import Answer, Pool, closed_loop, open_loop

BACKBONE = "sentence-transformers/all-MiniLM-L6-v2"
ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "benchmarks" / "results" / "serving"
ADMIN = "a-key-for-this-benchmark-only"
SEED = 0
PATIENCE = 1000
"""Milliseconds after which an answer is of no use; under overload the server is told to let half of it wait."""
CLOSE = 1e-3
"""How far probabilities may be apart that were computed in different batches."""
WORDS = "a warm funny film nobody should miss though its middle is rather long and dull".split()  # noqa: SIM905


def texts(count: int) -> list[str]:
    """Texts of 5 to 60 words, most of them short."""
    generator = random.Random(SEED)
    lengths = [min(60, max(5, int(generator.lognormvariate(2.7, 0.6)))) for _ in range(count)]
    return [" ".join(generator.choices(WORDS, k=length)) for length in lengths]


def train(backbone: Backbone, name: str, seed: int, folder: Path) -> Path:
    """A task whose labels nobody else has; or one of entities or of questions, by its name."""
    sentences = texts(4)
    task: Any = fw.Classification()
    data: list[dict[str, Any]] = [{"text": text, "label": f"{name}-{n % 2}"} for n, text in enumerate(sentences)]
    if name.startswith("ner"):
        task = fw.NER()
        data = [{"tokens": text.split(), "tags": ["B-X", *["O"] * (len(text.split()) - 1)]} for text in sentences]
    elif name.startswith("qa"):
        task = fw.QA()
        data = [
            {"question": "Which?", "context": text, "answers": [{"text": text.split()[0], "answer_start": 0}]}
            for text in sentences
        ]
    fw.train(
        backbone,
        fw.PTuningV2(prompt_length=20),
        task,
        train=data,
        dev=data,
        progress=False,
        epochs=1,
        batch_size=4,
        learning_rate=3e-2,
        seed=seed,
    ).save(folder / name)
    return folder / name


def record(name: str, text: str) -> dict[str, Any]:
    """An input of a task of `train`."""
    return {"question": "Which?", "context": text} if name.startswith("qa") else {"text": text}


def fill(backbone: Backbone, folder: Path, tasks: int, versions: int) -> Registry:
    """A registry of so many tasks, a fifth of them of other kinds, and `swapped` with versions of its own."""
    registry = Registry(folder / "registry", create=True)
    for number in range(tasks):
        kind = {3: "ner", 4: "qa"}.get(number % 10, "task")
        registry.add(train(backbone, f"{kind}{number}", number, folder), f"{kind}{number}")
    for number in range(1, versions + 1):
        registry.add(train(backbone, f"swapped{number}", 1000 + number, folder), "swapped")
    registry.set_alias("swapped", "champion", 1)
    return registry


@contextmanager
def server(registry: Registry, threads: int, folder: Path, *options: str) -> Iterator[int]:
    """`foreword serve` in a process; its port."""
    with socket.create_server(("127.0.0.1", 0)) as one:
        port = one.getsockname()[1]
    (folder / "admin-key").write_text(ADMIN)
    command = [sys.executable, "-m", "foreword", "serve", str(registry.root), "--backbone", BACKBONE]
    command += ["--port", str(port), "--threads", str(threads), *options]
    command += ["--admin-key-file", str(folder / "admin-key")]
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src"), "HF_HUB_OFFLINE": "1"}
    with (folder / "server.log").open("a") as log:
        process = subprocess.Popen(command, env=environment, stdout=log, stderr=log)
        try:
            while asyncio.run(Pool(port).ask("GET", "/readyz", {})).status != 200:
                if process.poll() is not None:
                    raise SystemExit((folder / "server.log").read_text())
                time.sleep(0.2)
            yield port
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(60)


def throughput(port: int, registry: Registry, backbone: Backbone, smoke: bool) -> dict[str, Any]:
    """Inputs per second over HTTP, 768 in flight, and of the engine alone, which has all of them at once, in turns."""
    names = [name for name in registry.names() if name != "swapped"]
    generator = random.Random(SEED)
    mix = [(generator.choice(names), text) for text in texts(64 if smoke else 4096)]
    inputs = [(name, record(name, text)) for name, text in mix]
    bodies = [
        {"inputs": [{"task": name, **fields} for name, fields in inputs[start : start + 16]]}
        for start in range(0, len(inputs), 16)
    ]
    engine = Engine(backbone, registry)
    engine.predict(inputs[:64])

    async def over_http() -> float:
        pool = Pool(port)
        began = time.perf_counter()
        answers = await closed_loop(lambda body: pool.ask("POST", "/v1/predict", body), bodies, clients=48)
        seconds = time.perf_counter() - began
        pool.close()
        assert all(answer.status == 200 for answer in answers), Counter(answer.status for answer in answers)
        return len(inputs) / seconds

    def alone() -> float:
        began = time.perf_counter()
        engine.predict(inputs)
        return len(inputs) / (time.perf_counter() - began)

    asyncio.run(over_http())
    rounds = [(asyncio.run(over_http()), alone()) for _ in range(1 if smoke else 3)]
    return {
        "inputs": len(inputs),
        "inputs_per_request": 16,
        "requests_in_flight": 48,
        "http_inputs_per_second": [http for http, _ in rounds],
        "engine_inputs_per_second": [own for _, own in rounds],
        "ratio": median(http / own for http, own in rounds),
        "target": 0.85,
    }


def overload(port: int, registry: Registry, backbone: Backbone, smoke: bool) -> dict[str, Any]:
    """Requests of one input at 0.5 to 5 times what the server can answer, each of use for a second."""
    del backbone
    names, sentences = [name for name in registry.names() if name != "swapped"], texts(200)

    def body(generator: random.Random) -> dict[str, Any]:
        name = names[min(int(generator.paretovariate(1.0)) - 1, len(names) - 1)]
        inputs = [record(name, generator.choice(sentences))]
        return {"task": name, "inputs": inputs, "options": {"timeout_ms": PATIENCE}}

    async def run() -> dict[str, Any]:
        pool, generator = Pool(port), random.Random(SEED)
        ask = lambda body, due=None: pool.ask("POST", "/v1/predict", body, due)  # noqa: E731
        bodies = [body(generator) | {"options": {}} for _ in range(100 if smoke else 1500)]
        began = time.perf_counter()
        answers = await closed_loop(ask, bodies, clients=16)  # few enough that none is refused
        capacity = sum(answer.status == 200 for answer in answers) / (time.perf_counter() - began)
        found = {}
        for factor in (0.5, 0.8, 1.0, 2.0, 5.0):
            seconds = 2.0 if smoke else 40.0
            answers = await open_loop(ask, body, rate=factor * capacity, seconds=seconds, seed=SEED)
            found[str(factor)] = _told(answers, seconds)
            await asyncio.sleep(1.0)
        pool.close()
        peak = max(part["goodput"] for part in found.values())
        return {
            "capacity_requests_per_second": capacity,
            "factors": found,
            "goodput_at_5_over_peak": found["5.0"]["goodput"] / peak,
            "target": 0.9,
        }

    return asyncio.run(run())


def _told(answers: list[Answer], seconds: float) -> dict[str, Any]:
    good = sorted(answer.seconds for answer in answers if answer.status == 200)
    refused = sorted(answer.done - answer.sent for answer in answers if answer.status == 429)
    return {
        "sent": len(answers),
        "statuses": dict(Counter(answer.status for answer in answers)),
        "goodput": sum(one <= 1.0 for one in good) / seconds,
        "accepted_seconds": _quantiles(good),
        "refused_seconds": _quantiles(refused),
    }


def _quantiles(ordered: list[float]) -> dict[str, float]:
    return {f"p{q}": ordered[min(len(ordered) - 1, len(ordered) * q // 100)] for q in (50, 95, 99)} if ordered else {}


def canaries(port: int, registry: Registry, backbone: Backbone, smoke: bool) -> dict[str, Any]:
    """Every answer against that of the task's own predictor, which shares no code with the batcher."""
    names, sentences = [name for name in registry.names() if name != "swapped"], texts(20)
    wanted: dict[tuple[str, str], dict[str, Any]] = {}
    for name in names:
        predictor = fw.Predictor(registry.open(registry.resolve(name)), backbone)
        answers = predictor.predict([record(name, text) for text in sentences])
        wanted |= {(name, text): answer for text, answer in zip(sentences, answers, strict=True)}
    generator = random.Random(SEED)
    asked = [generator.choice(list(wanted)) for _ in range(300 if smoke else 100_000)]

    async def run() -> dict[str, Any]:
        pool, wrong, failed, apart = Pool(port), 0, 0, 0.0
        for start in range(0, len(asked), 5000):
            part = asked[start : start + 5000]
            bodies = [{"task": name, "inputs": [record(name, text)]} for name, text in part]
            numbered = {id(body): key for body, key in zip(bodies, part, strict=True)}
            answers: list[tuple[tuple[str, str], Answer]] = []

            async def ask(body: Any, keys: Any = numbered, into: Any = answers) -> Answer:
                answer = await pool.ask("POST", "/v1/predict", body)
                into.append((keys[id(body)], answer))
                return answer

            await closed_loop(ask, bodies, clients=64)
            for (name, text), answer in answers:
                failed += answer.status != 200
                if answer.status == 200:
                    (result,) = answer.body["results"]
                    far = distance(result["answer"], wanted[name, text])
                    wrong += result["task"] != name or far > CLOSE
                    apart = max(apart, far if far != float("inf") else 0.0)
        pool.close()
        return {"requests": len(asked), "tasks": len(names), "wrong": wrong, "failed": failed, "furthest": apart}

    return asyncio.run(run())


def distance(one: Any, other: Any) -> float:
    """Largest difference of the numbers of two answers; infinite where anything else differs. Ids do not count."""
    match one, other:
        case (dict(), dict()) if one.keys() == other.keys():
            return max((distance(one[key], other[key]) for key in one if key != "id"), default=0.0)
        case (list(), list()) if len(one) == len(other):
            return max(map(distance, one, other), default=0.0)
        case (float(), float()):
            return abs(one - other)
    return 0.0 if one == other else float("inf")


def swaps(port: int, registry: Registry, backbone: Backbone, smoke: bool) -> dict[str, Any]:
    """An alias that moves 200 times in 60 s at 70 % load; every answer is of one version, none older than it may be."""
    del backbone
    versions = {one.number: one for one in registry.versions("swapped")}
    count, seconds = (10, 3.0) if smoke else (200, 60.0)
    sentences = texts(50)

    async def run() -> dict[str, Any]:
        pool, admin = Pool(port), Pool(port, {"authorization": f"Bearer {ADMIN}"})
        body = lambda generator: {"task": "swapped@champion", "inputs": generator.choices(sentences, k=2)}  # noqa: E731
        ask = lambda body, due=None: pool.ask("POST", "/v1/predict", body, due)  # noqa: E731
        began = time.perf_counter()
        bodies = [body(random.Random(n)) for n in range(50 if smoke else 500)]
        await closed_loop(ask, bodies, clients=32)
        rate = 0.7 * len(bodies) / (time.perf_counter() - began)
        history: list[tuple[float, float, int]] = [(0.0, 0.0, 1)]  # asked for, acknowledged, version

        async def swap() -> int:
            failed = 0
            for number in range(count):
                wanted, asked = number % len(versions) + 1, time.perf_counter()
                path = "/admin/tasks/swapped/aliases/champion"
                answer = await admin.ask("PUT", path, {"version": wanted})
                failed += answer.status != 200
                history.append((asked, answer.done, wanted))
                await asyncio.sleep(max(0.0, seconds / count - (time.perf_counter() - asked)))
            return failed

        failed_swaps, answers = await asyncio.gather(
            swap(), open_loop(ask, body, rate=rate, seconds=seconds, seed=SEED)
        )
        failed = mixed = stale = 0
        for answer in answers:
            if answer.status != 200:
                failed += 1
                continue
            results = answer.body["results"]
            (number,) = {result["version"] for result in results} if results else (0,)
            right = all(
                result["digest"] == versions[number].digest
                and result["answer"]["label"].startswith(f"swapped{number}-")
                for result in results
            )
            mixed += not right
            current = max(n for n, (_, acknowledged, _) in enumerate(history) if acknowledged <= answer.sent)
            allowed = {v for asked, _, v in history[current:] if asked <= answer.done}
            stale += number not in allowed
        pool.close()
        admin.close()
        return {
            "swaps": count,
            "seconds": seconds,
            "requests": len(answers),
            "requests_per_second": rate,
            "failed_swaps": failed_swaps,
            "failed": failed,
            "mixed": mixed,
            "stale": stale,
        }

    return asyncio.run(run())


def schemathesis(port: int, registry: Registry, backbone: Backbone, smoke: bool) -> dict[str, Any]:
    """Whatever the description allows, and much that it does not: no 5xx, and answers as described."""
    del registry, backbone
    import schemathesis as st  # noqa: PLC0415  an import of seconds, for this part only
    from hypothesis import HealthCheck, given, settings  # noqa: PLC0415
    from schemathesis.checks import not_a_server_error  # noqa: PLC0415
    from schemathesis.specs.openapi.checks import response_schema_conformance  # noqa: PLC0415

    description = st.openapi.from_url(f"http://127.0.0.1:{port}/openapi.json")
    cases: Counter[str] = Counter()
    failures: list[str] = []
    limits = settings(
        max_examples=10 if smoke else 2000, deadline=None, suppress_health_check=list(HealthCheck), database=None
    )

    def check(case: st.Case) -> None:
        cases[case.operation.label] += 1
        case.call_and_validate(checks=[not_a_server_error, response_schema_conformance])

    for result in description.get_all_operations():
        operation = result.ok()
        if operation.path.startswith("/admin"):
            continue  # it would publish and remove
        try:
            limits(given(case=operation.as_strategy())(check))()
        except Exception as error:
            failures.append(f"{operation.label}: {error}"[:2000])
    return {"cases": dict(cases), "failures": failures}


OPTIONS = {
    "throughput": ("--batch-tokens", "4096"),  # as many as the engine takes where nobody waits for a first answer
    "overload": ("--max-wait", str(PATIENCE / 2000)),
}
"""Of the server, for a part."""
PARTS = {part.__name__: part for part in (throughput, overload, canaries, swaps, schemathesis)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default=",".join(PARTS), help="parts, with commas between")
    parser.add_argument("--smoke", action="store_true", help="all of it in a minute or two; nothing is written")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads(), help="of a forward pass")
    parser.add_argument("--out", type=Path, default=RESULTS)
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    backbone = load_backbone(BACKBONE)
    with tempfile.TemporaryDirectory(prefix="foreword-bench-") as scratch:
        folder = Path(scratch)
        registry = fill(backbone, folder, tasks=10 if given.smoke else 50, versions=3 if given.smoke else 10)
        for name in given.only.split(","):
            with server(registry, given.threads, folder, *OPTIONS.get(name, ())) as port:
                found = PARTS[name](port, registry, backbone, given.smoke)
            result = {"part": name, "smoke": given.smoke, **found, "run": about(given.threads)}
            print(json.dumps(result, indent=2))
            if not given.smoke:
                given.out.mkdir(parents=True, exist_ok=True)
                (given.out / f"{name}.json").write_text(json.dumps(result, indent=2) + "\n")


def about(threads: int) -> dict[str, Any]:
    """What it ran on."""
    packages = ("torch", "transformers", "fastapi", "starlette", "uvicorn", "h11")
    return {
        "backbone": BACKBONE,
        "seed": SEED,
        "threads": threads,
        "cores": os.cpu_count(),
        "machine": platform.processor() or platform.machine(),
        "versions": {"python": platform.python_version(), **{name: version(name) for name in packages}},
    }


if __name__ == "__main__":
    main()
