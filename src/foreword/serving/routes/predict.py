"""`POST /v1/predict`: one or many inputs, of one or many tasks."""

from __future__ import annotations

import time
from typing import Any

from fastapi import Request, Response
from pydantic_core import to_json

from foreword.serving.answering import Ask, Resolver, Timing, answer
from foreword.serving.front import problem_response
from foreword.serving.problems import Problem
from foreword.serving.routes import ANSWERING, problems, router
from foreword.serving.schemas import PredictRequest, PredictResponse
from foreword.serving.service import Service, caller_of, request_id_of, service_of

routes = router("/v1", "Answers")


@routes.post("/predict", response_model=PredictResponse, responses=problems(*ANSWERING))
async def predict(body: PredictRequest, request: Request) -> Response:
    """Answer inputs.

    Every result says which version of which task answered. Where only some inputs have an answer, the others have an
    `error` in their place; where none has, the first problem is the answer to the request, with all of them under
    `results`.
    """
    began, service = time.perf_counter(), service_of(request)
    asks = _asks(body, Resolver(service, caller_of(request)), service)
    timing = await answer(service, asks, body.options, request.receive)
    request_id = request_id_of(request)
    results = [_result(ask, request_id) for ask in asks]
    if all(ask.problem is not None for ask in asks) and (first := asks[0].problem) is not None:
        return problem_response(first, request_id, {"results": results} if len(results) > 1 else None)
    told = {
        "request_id": request_id,
        "model": service.engine.model,
        "results": results,
        "latency_ms": _milliseconds(timing, time.perf_counter() - began),
        "batch": {"rows": timing.rows, "tasks": timing.tasks},
    }
    return Response(to_json(told), media_type="application/json")


def _asks(body: PredictRequest, resolver: Resolver, service: Service) -> list[Ask]:
    """Every input for every task it is asked of, with who answers.

    Raises:
        Problem: they are too many, or nobody is asked.
    """
    named = body.tasks or ([] if body.task is None else [body.task])
    everyone = [resolver.ensemble(body.ensemble)] if body.ensemble else [resolver.handle(one) for one in named]
    asks: list[Ask] = []
    for number, item in enumerate(body.inputs):
        record: dict[str, Any] = {"text": item} if isinstance(item, str) else dict(item)
        own = record.pop("task", None)
        if own is not None and not (isinstance(own, str) and 0 < len(own) <= 160):
            raise Problem("request.malformed", "An input's task is a reference to one", field=f"inputs.{number}.task")
        asked = everyone if own is None else [resolver.handle(own)]
        if not asked:
            raise Problem(
                "request.malformed", "Name a task, for the request or for this input", field=f"inputs.{number}"
            )
        asks += [Ask.of(number, record, found) for found in asked]
        if len(asks) > service.settings.max_inputs:
            raise Problem(
                "request.too-large", f"A request may have {service.settings.max_inputs} results; send several"
            )
    return asks


def _result(ask: Ask, request_id: str) -> dict[str, Any]:
    told: dict[str, Any] = {"input": ask.input}
    if ask.handle is not None:
        told |= {"task": ask.handle.task, "version": ask.handle.version, "digest": ask.handle.digest}
    if ask.problem is not None or ask.answer is None:
        return told | {"error": None if ask.problem is None else ask.problem.body(request_id)}
    answered = dict(ask.answer)
    together = {name: answered.pop(name) for name in ("agreement", "members") if ask.handle and ask.handle.vote}
    return told | {"answer": answered} | together | {"notes": list(ask.job.notes) if ask.job else []}


def _milliseconds(timing: Timing, total: float) -> dict[str, float]:
    parts = {"queue": timing.queue, "forward": timing.forward, "total": total}
    return {name: round(1000 * seconds, 3) for name, seconds in parts.items()}
