"""Tasks that write, over HTTP in OpenAI's form."""

from __future__ import annotations

import pytest

import foreword as fw
from foreword.registry import Registry
from serving_at import Served, served
from tiny_writers import train, writer

PROMPT = "name : Anna | area : London"


@pytest.fixture(scope="module")
def writing(tmp_path_factory: pytest.TempPathFactory) -> Served:
    root = tmp_path_factory.mktemp("writing")
    registry = Registry(root / "registry", create=True)
    for method in ("prefix-tuning", "ptuning-v2"):
        train("gpt2", method).save(root / method)
        registry.add(root / method, method)
    with served(registry, backbone=writer("gpt2")) as one:
        yield one


def alone(writing: Served, task: str, prompt: str) -> str:
    registry = writing.engine.source
    predictor = fw.Predictor(registry.open(registry.resolve(task)), writer("gpt2"))
    return predictor.predict([{"source": prompt}])[0]["text"]


def test_completions_are_what_the_task_writes_alone(writing: Served):
    prompts = [PROMPT, "name : Peter | area : Germany"]
    for task in ("prefix-tuning", "ptuning-v2"):
        response = writing.client.post("/v1/completions", json={"model": task, "prompt": prompts})
        assert response.status_code == 200, response.text
        body = response.json()
        assert [choice["text"] for choice in body["choices"]] == [alone(writing, task, prompt) for prompt in prompts]
        assert (body["object"], body["model"], body["task"], body["version"]) == ("text_completion", task, task, 1)
        assert body["usage"]["total_tokens"] == body["usage"]["prompt_tokens"] + body["usage"]["completion_tokens"]
        assert body["digest"] == writing.engine.source.resolve(task).digest


def test_written_answers_come_from_predict_too(writing: Served):
    inputs = [{"source": PROMPT}, {"source": PROMPT, "task": "ptuning-v2"}]
    results = writing.predict(task="prefix-tuning", inputs=inputs).json()["results"]
    assert [result["answer"]["text"] for result in results] == [
        alone(writing, task, PROMPT) for task in ("prefix-tuning", "ptuning-v2")
    ]


def test_unknown_models_and_tasks_that_do_not_write(writing: Served, server: Served):
    response = writing.client.post("/v1/completions", json={"model": "nothing", "prompt": "x"})
    assert (response.status_code, response.json()["code"]) == (404, "task.unknown")
    response = server.client.post("/v1/completions", json={"model": "colour", "prompt": "x"})
    assert (response.status_code, response.json()["code"], response.json()["field"]) == (
        422,
        "request.malformed",
        "model",
    )


@pytest.mark.parametrize("extra", [{"n": 100}, {"max_tokens": 10**9}, {"stream": True}, {"prompt": []}, {"best_of": 5}])
def test_what_is_not_offered_is_refused(writing: Served, extra: dict):
    response = writing.client.post("/v1/completions", json={"model": "ptuning-v2", "prompt": "x", **extra})
    assert (response.status_code, response.json()["code"]) == (422, "request.malformed")
