"""The OpenAPI description: complete, and kept by the server whatever is sent (a short run of schemathesis)."""

from __future__ import annotations

import re

import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import response_schema_conformance

from serving_at import Served


def test_every_route_is_described_with_examples_and_problems(server: Served):
    described = server.client.get("/openapi.json").json()
    assert set(described["paths"]) == {
        "/v1/predict",
        "/v1/completions",
        "/v1/tasks",
        "/v1/tasks/{name}",
        "/healthz",
        "/readyz",
        "/metrics",
    }
    predict = described["paths"]["/v1/predict"]["post"]
    assert {"200", "404", "413", "422", "429", "503", "504"} <= set(predict["responses"])
    request = described["components"]["schemas"]["PredictRequest"]
    assert {"task", "tasks", "ensemble"} <= {key for example in request["examples"] for key in example}
    for example in request["examples"]:
        response = server.client.post("/v1/predict", json=example)
        assert response.status_code in (200, 404), response.text  # it is understood; the tasks are others here


def test_everything_in_a_request_has_a_bound(server: Served):
    schemas = server.client.get("/openapi.json").json()["components"]["schemas"]
    requests = {name: one for name, one in schemas.items() if re.search("Request|Options|Ensemble", name)}
    assert len(requests) >= 4

    def check(where: str, node: dict) -> None:
        if "$ref" in node or "const" in node or "enum" in node:
            return
        for part in node.get("anyOf", []):
            check(where, part)
        match node.get("type"):
            case "string":
                assert "maxLength" in node, where
            case "array":
                assert "maxItems" in node, where
                check(where, node["items"])
            case "integer":
                assert {"minimum", "maximum"} <= node.keys(), where
            case "object":
                assert "maxProperties" in node, where

    for name, one in requests.items():
        assert one["additionalProperties"] is False
        for field, node in one["properties"].items():
            check(f"{name}.{field}", node)


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/v1/predict"),
        ("POST", "/v1/completions"),
        ("GET", "/v1/tasks"),
        ("GET", "/v1/tasks/{name}"),
        ("GET", "/healthz"),
        ("GET", "/readyz"),
        ("GET", "/metrics"),
    ],
)
def test_whatever_is_sent_the_answer_is_one_that_is_described(server: Served, method: str, path: str):
    schema = schemathesis.openapi.from_url(f"{server.url}/openapi.json")
    operation = schema[path][method]

    @settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck), database=None)
    @given(case=operation.as_strategy())
    def send(case: schemathesis.Case) -> None:
        case.call_and_validate(checks=[not_a_server_error, response_schema_conformance])

    send()
