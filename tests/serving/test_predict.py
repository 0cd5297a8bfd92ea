"""What is answered over HTTP, and by whom."""

from __future__ import annotations

import foreword as fw
from foreword.registry import Registry
from foreword.serving.catalogue import Catalogue
from foreword.serving.readiness import alike
from serving_at import Served, served

TEXT = "Anna Smith visited London."
QUESTION = {"question": "Where was Anna?", "context": "Anna was in London with Peter."}


def alone(registry: Registry, reference: str, record: dict) -> dict:
    """The answer of the one-task predictor, which shares nothing with the engine but the model."""
    from tiny import tiny_backbone

    return fw.Predictor(registry.open(registry.resolve(reference)), tiny_backbone()).predict([record])[0]


def test_one_input_of_one_task(server: Served, registry: Registry):
    response = server.predict(task="colour@champion", inputs=[{"text": TEXT}])
    assert response.status_code == 200, response.text
    body = response.json()
    (result,) = body["results"]
    version = registry.resolve("colour:1")
    assert (result["task"], result["version"], result["digest"]) == ("colour", 1, version.digest)
    assert body["model"] == server.engine.backbone.identity.weights[:12]
    assert body["request_id"] == response.headers["x-request-id"]
    assert alike(result["answer"], alone(registry, "colour:1", {"text": TEXT}))
    assert result["notes"] == []
    assert body["latency_ms"]["total"] >= body["latency_ms"]["forward"] > 0
    assert body["batch"] == {"rows": 1, "tasks": 1}


def test_mixed_tasks_in_one_request_are_each_answered_as_alone(server: Served, registry: Registry):
    inputs = [
        {"text": TEXT},
        {"task": "ner", "text": TEXT},
        {"task": "qa", **QUESTION},
        {"task": "shape", "text": "nobody didn't like it"},
        "Peter was reading about Germany",
    ]
    results = server.predict(task="colour", inputs=inputs).json()["results"]
    assert [result["task"] for result in results] == ["colour", "ner", "qa", "shape", "colour"]
    for number, (item, result) in enumerate(zip(inputs, results, strict=True)):
        record = {"text": item} if isinstance(item, str) else {k: v for k, v in item.items() if k != "task"}
        expected = alone(registry, result["task"], record) | {"id": str(number)}
        assert result["input"] == number
        assert alike(result["answer"], expected), (result, expected)


def test_every_input_of_several_tasks(server: Served):
    results = server.predict(tasks=["colour:1", "colour:2", "shape"], inputs=[TEXT, "it"]).json()["results"]
    assert [(r["input"], r["task"], r["version"]) for r in results] == [
        (n, task, version) for n in (0, 1) for task, version in (("colour", 1), ("colour", 2), ("shape", 1))
    ]
    assert all(result["answer"]["label"].startswith(("colour1-", "colour2-", "shape-")) for result in results)


def test_ensembles_say_what_members_said(server: Served, registry: Registry):
    ensemble = {"members": ["shape:1", "shape@latest"], "vote": "majority"}
    (result,) = server.predict(ensemble=ensemble, inputs=[TEXT]).json()["results"]
    assert result["agreement"] == 1.0
    assert [member["digest"] for member in result["members"]] == [registry.resolve("shape").digest] * 2
    assert alike(result["answer"], alone(registry, "shape", {"text": TEXT}))
    assert "agreement" not in result["answer"]


def test_ensembles_of_different_labels_are_refused(server: Served):
    response = server.predict(ensemble={"members": ["colour:1", "shape"]}, inputs=[TEXT])
    assert (response.status_code, response.json()["code"]) == (422, "request.malformed")


def test_an_input_that_fails_leaves_the_others_theirs(server: Served):
    response = server.predict(task="colour", inputs=[TEXT, {"words": 3}, {"task": "nothing", "text": "x"}])
    assert response.status_code == 200
    good, bad, unknown = response.json()["results"]
    assert good["answer"]["label"].startswith("colour2-")
    assert (bad["error"]["code"], bad["error"]["status"]) == ("input.invalid", 422)
    assert "text" in bad["error"]["detail"]
    assert unknown["error"]["code"] == "task.unknown"
    assert "answer" not in bad


def test_where_nothing_has_an_answer_the_problem_is_the_answer(server: Served):
    response = server.predict(task="colour", inputs=[{"words": 3}, {"words": 4}])
    assert response.status_code == 422
    assert response.headers["content-type"] == "application/problem+json"
    body = response.json()
    assert body["code"] == "input.invalid"
    assert len(body["results"]) == 2


def test_candidates_and_truncation(server: Served):
    (result,) = server.predict(task="qa", inputs=[QUESTION], options={"candidates": 2}).json()["results"]
    assert len(result["answer"]["candidates"]) == 2
    long = " ".join(["London"] * 500)
    (result,) = server.predict(task="colour", inputs=[long]).json()["results"]
    assert result["notes"] == ["truncated"]
    response = server.predict(task="colour", inputs=[long], options={"truncate": False})
    assert (response.status_code, response.json()["code"]) == (422, "input.too-long")


def test_tasks_are_described(server: Served):
    body = server.client.get("/v1/tasks").json()
    assert body["model"]["digest"] == server.engine.backbone.identity.weights[:12]
    tasks = {task["task"]: task for task in body["tasks"]}
    assert set(tasks) == {"colour", "shape", "ner", "qa"}
    colour = tasks["colour"]
    assert (colour["latest"], colour["versions"], colour["aliases"]) == (2, [1, 2], {"champion": 1, "latest": 2})
    assert colour["labels"] == ["colour2-0", "colour2-1"]
    assert colour["fields"] == {"text": True}
    assert tasks["qa"]["fields"] == {"question": True, "context": True}
    for task in tasks.values():
        assert server.predict(task=task["task"], inputs=[task["example"]]).status_code == 200


def test_one_task_with_its_versions(server: Served, registry: Registry):
    body = server.client.get("/v1/tasks/colour").json()
    assert [d["digest"] for d in body["details"]] == [v.digest for v in registry.versions("colour")]
    assert body["details"][0]["method"] == "ptuning-v2"
    assert server.client.get("/v1/tasks/nothing").json()["code"] == "task.unknown"


def test_health_readiness_docs_and_the_page(server: Served):
    assert server.client.get("/healthz").json() == {"status": "ok"}
    assert server.client.get("/readyz").json() == {"ready": True, "reason": "ready", "tested": "colour"}
    assert server.client.get("/openapi.json").json()["paths"]["/v1/predict"]
    assert server.client.get("/docs").status_code == 200
    page = server.client.get("/")
    assert page.headers["content-type"].startswith("text/html")


def test_ready_in_half_precision_and_without_a_task_that_cannot_be_tested(registry: Registry, monkeypatch):
    """Answers of two batches are not the same to three places there; and one odd task is not all of them."""
    describe = Catalogue.describe

    def odd(self, digest, task):
        if digest == registry.resolve("colour").digest:
            raise ValueError("nobody expected this")
        return describe(self, digest, task)

    monkeypatch.setattr(Catalogue, "describe", odd)
    with served(registry, bf16=True) as one:
        said = one.client.get("/readyz").json()
    assert said["ready"]
    assert said["tested"] in set(registry.names()) - {"colour"}


def test_a_request_keeps_the_id_it_brings_if_it_is_one(server: Served):
    given = server.client.get("/v1/tasks", headers={"x-request-id": "mine-1"})
    assert given.headers["x-request-id"] == "mine-1"
    made = server.client.get("/v1/tasks", headers={"x-request-id": 'x" injected'})
    assert made.headers["x-request-id"].isalnum()
