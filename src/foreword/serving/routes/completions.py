"""`POST /v1/completions`: tasks that write, in the form of OpenAI's API."""

from __future__ import annotations

import time
from typing import Any

from fastapi import Request

from foreword.inference.engine import Handle
from foreword.serving.answering import Ask, Resolver, answer
from foreword.serving.problems import Problem
from foreword.serving.routes import ANSWERING, problems, router
from foreword.serving.schemas import Choice, CompletionRequest, CompletionResponse, Options, Usage
from foreword.serving.service import Service, caller_of, request_id_of, service_of

routes = router("/v1", "Answers")


@routes.post("/completions", responses=problems(*ANSWERING))
async def completions(body: CompletionRequest, request: Request) -> CompletionResponse:
    """Write a text for each prompt."""
    service = service_of(request)
    handle = _writer(Resolver(service, caller_of(request)).handle(body.model))
    field = _field(service, handle)
    prompts = [body.prompt] if isinstance(body.prompt, str) else body.prompt
    if len(prompts) > service.settings.max_inputs:
        raise Problem("request.too-large", f"A request may have {service.settings.max_inputs} prompts; send several")
    asks = [Ask.of(number, {field: prompt}, handle) for number, prompt in enumerate(prompts)]
    await answer(service, asks, Options(), request.receive)
    for ask in asks:
        if ask.problem is not None:
            raise ask.problem
    texts = [_text(ask.answer or {}) for ask in asks]
    read = sum(ask.job.tokens for ask in asks if ask.job is not None)
    written = await service.batcher.aside(lambda: _tokens(service, texts))
    return CompletionResponse(
        id=f"cmpl-{request_id_of(request)}",
        created=int(time.time()),
        model=body.model,
        choices=[Choice(index=number, text=text) for number, text in enumerate(texts)],
        usage=Usage(prompt_tokens=read, completion_tokens=written, total_tokens=read + written),
        task=handle.task,
        version=handle.version,
        digest=handle.digest,
        backbone=handle.model,
    )


def _writer(found: Handle | Problem) -> Handle:
    if isinstance(found, Problem):
        raise found
    if not found.writes:
        raise Problem("request.malformed", "This task does not write; ask it with /v1/predict", field="model")
    return found


def _field(service: Service, handle: Handle) -> str:
    """The one field that a prompt stands for."""
    member = handle.members[0]
    fields = service.catalogue.describe(member.digest, member.manifest.task).fields
    needed = [name for name, must in fields.items() if must]
    if len(needed) != 1:
        raise Problem("request.malformed", "This task reads several fields; ask it with /v1/predict", field="model")
    return needed[0]


def _text(answer: dict[str, Any]) -> str:
    return str(answer.get("text") or "")


def _tokens(service: Service, texts: list[str]) -> int:
    tokenizer = service.engine.backbone.tokenizer
    return sum(len(tokenizer(text, add_special_tokens=False)["input_ids"]) for text in texts)
