"""A client for `foreword serve`: plain HTTP, no model, no torch.

with Client("http://localhost:8000") as client:
    for answer in client.predict(["Where is my parcel?"], task="tickets").answers:
        print(answer.value["label"], answer.reference)
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from types import TracebackType
from typing import Any, Literal, Self
from urllib.parse import quote

import httpx

from foreword.errors import ServerError

Input = str | Mapping[str, Any]
"""A text, or the fields that a task reads; it may name its own task under "task"."""


@dataclass(frozen=True, slots=True)
class Member:
    """What one version said in an ensemble.

    Attributes:
        task, version, digest: which version it is.
        value: its answer.
    """

    task: str
    version: int | None
    digest: str
    value: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Answer:
    """The answer to one input by one task, or by an ensemble.

    Attributes:
        input: number of the input it belongs to, from 0.
        task: name of the task that answered.
        version: its version; None for ensembles.
        digest: sha256 of that version, which never changes.
        value: the answer, with the fields of the task's kind (docs/tasks/), such as "label" and "probabilities".
        agreement: share of an ensemble's members that gave this answer, in [0, 1]; None for single versions.
        members: what each member of an ensemble said.
        notes: what had to be done to make the input fit, such as "truncated".
    """

    input: int
    task: str
    version: int | None
    digest: str
    value: Mapping[str, Any]
    agreement: float | None = None
    members: tuple[Member, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def reference(self) -> str:
        """What to ask for to be answered by the same version again; an ensemble has its task's name only."""
        return self.task if self.version is None else f"{self.task}:{self.version}"


@dataclass(frozen=True, slots=True)
class Refused:
    """An input that has no answer.

    Attributes:
        input: its number, from 0.
        task: what it was asked of, as far as the server says.
        error: why.
    """

    input: int
    task: str | None
    error: ServerError


@dataclass(frozen=True, slots=True)
class Predictions:
    """All that came back for one request.

    Attributes:
        results: an `Answer` or a `Refused` per input and task, in the order asked.
        request_id: what the server's log calls the request.
        model: digest of the frozen model's weights, 12 hex digits.
        latency_ms: milliseconds in the "queue", in the "forward" pass, and in the server in "total".
    """

    results: tuple[Answer | Refused, ...]
    request_id: str
    model: str
    latency_ms: Mapping[str, float]

    @property
    def answers(self) -> list[Answer]:
        """The answers, when all inputs have one.

        Raises:
            ServerError: of the first that has none.
        """
        found = []
        for result in self.results:
            if isinstance(result, Refused):
                raise result.error
            found.append(result)
        return found


@dataclass(frozen=True, slots=True)
class ServedVersion:
    """A published version of a task: its number, digest, time of publishing, method, dev metrics and size."""

    version: int
    digest: str
    created: str
    method: str
    metrics: Mapping[str, float]
    parameters: int


@dataclass(frozen=True, slots=True)
class ServedTask:
    """A task that can be asked.

    Attributes:
        name: what to ask for.
        kind: what it does, such as "classification" or "ner".
        latest: its newest version.
        aliases: alias -> version.
        versions: all there are.
        labels: names it answers with, where it has any.
        fields: fields it reads -> whether they are needed.
        example: an input to try.
        details: more on every version; only from `Client.task`.
    """

    name: str
    kind: str
    latest: int | None
    aliases: Mapping[str, int]
    versions: tuple[int, ...]
    labels: tuple[str, ...] | None
    fields: Mapping[str, bool]
    example: Mapping[str, Any]
    details: tuple[ServedVersion, ...] = ()


@dataclass(frozen=True, slots=True)
class Completion:
    """Texts that were written, one per prompt.

    Attributes:
        texts: in the order of the prompts.
        task, version, digest: what wrote them.
        prompt_tokens, completion_tokens: how many were read and written, all together.
    """

    texts: tuple[str, ...]
    task: str
    version: int | None
    digest: str
    prompt_tokens: int
    completion_tokens: int


class Client:
    """Asks a server.

    A connection that fails is tried again twice. A server that is busy (429) is asked again when its ``Retry-After``
    is over, at most ``attempts`` times in all, and never after ``timeout`` seconds: then its error is raised.
    Nothing else is repeated.

    Args:
        url: where the server is, such as "http://localhost:8000"; a path in front of its own is kept.
        key: the API key, where it wants one.
        timeout: seconds until a request is given up, waiting for a busy server among them.
        attempts: how often a busy server is asked, the first time among them.

    Raises:
        ValueError: url is no address, or attempts is less than 1.
    """

    def __init__(self, url: str, key: str | None = None, *, timeout: float = 30.0, attempts: int = 3) -> None:
        if not url.startswith(("http://", "https://")):
            raise ValueError(f"url: expected an address such as 'http://localhost:8000', found '{url}'")
        if attempts < 1:
            raise ValueError("attempts must be at least 1")
        self._timeout, self._attempts = timeout, attempts
        self._http = httpx.Client(
            base_url=url,
            headers={"Accept": "application/json"} | ({} if key is None else {"Authorization": f"Bearer {key}"}),
            timeout=timeout,
            transport=httpx.HTTPTransport(retries=2),
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close all connections."""
        self._http.close()

    def predict(
        self,
        inputs: Input | Sequence[Input],
        *,
        task: str | None = None,
        tasks: Sequence[str] | None = None,
        ensemble: Sequence[str] | None = None,
        vote: Literal["mean", "majority"] = "mean",
        timeout_ms: int | None = None,
        truncate: bool = True,
        candidates: int = 0,
    ) -> Predictions:
        """Answers to one or many inputs.

        Args:
            inputs: one or several.
            task: who answers: ``name``, ``name@alias`` or ``name:version``. Not needed where inputs say so themselves.
            tasks: ask every input of each of these.
            ensemble: let these versions answer together.
            vote: of an ensemble: the 'mean' of the probabilities, or the 'majority'.
            timeout_ms: milliseconds after which the server may drop the request.
            truncate: whether texts that are too long lose their end (noted in the answer) or are refused.
            candidates: list so many of the best answers too, for tasks that rank them.

        Raises:
            ServerError: the request as a whole failed, or none of its inputs has an answer. Where only some have none,
                that is in the results.
        """
        several = [inputs] if isinstance(inputs, str | Mapping) else list(inputs)
        asked = {
            "task": task,
            "tasks": None if tasks is None else list(tasks),
            "ensemble": None if ensemble is None else {"members": list(ensemble), "vote": vote},
        }
        options = {"timeout_ms": timeout_ms, "truncate": truncate, "candidates": candidates}
        raw = self._ask("POST", "v1/predict", {"inputs": several, **_given(asked), "options": _given(options)})
        results = tuple(_result(result) for result in raw["results"])
        return Predictions(results, raw["request_id"], raw["model"], raw["latency_ms"])

    def tasks(self) -> list[ServedTask]:
        """Every task that may be asked.

        Raises:
            ServerError: there is no answer.
        """
        return [_task(raw) for raw in self._ask("GET", "v1/tasks")["tasks"]]

    def task(self, name: str) -> ServedTask:
        """One task, with details of its versions.

        Raises:
            ServerError: there is no such task, or no answer.
        """
        return _task(self._ask("GET", f"v1/tasks/{quote(name, safe='')}"))

    def complete(self, prompt: str | Sequence[str], *, task: str) -> Completion:
        """Texts from a task that writes.

        Args:
            prompt: what is given, one text or several.
            task: who writes.

        Raises:
            ServerError: the task is none that writes, or there is no answer.
        """
        prompts = prompt if isinstance(prompt, str) else list(prompt)
        raw = self._ask("POST", "v1/completions", {"model": task, "prompt": prompts})
        texts = tuple(choice["text"] for choice in sorted(raw["choices"], key=lambda choice: choice["index"]))
        usage = raw["usage"]
        return Completion(
            texts, raw["task"], raw["version"], raw["digest"], usage["prompt_tokens"], usage["completion_tokens"]
        )

    def _ask(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> Any:
        """The JSON of an answer; busy servers are waited for."""
        until = time.monotonic() + self._timeout
        for left in reversed(range(self._attempts)):
            try:
                response = self._http.request(method, path, json=body)
            except httpx.HTTPError as error:
                raise ServerError(f"{self._http.base_url}: no answer ({error})", code="server.unreachable") from error
            wait = _retry_after(response)
            if not left or wait is None or time.monotonic() + wait > until:
                break
            time.sleep(wait)
        return _read(response)


def _given(options: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in options.items() if value is not None}


def _retry_after(response: httpx.Response) -> float | None:
    """Seconds after which a busy server wants to be asked again; None if it is not busy or does not say."""
    told = response.headers.get("Retry-After", "") if response.status_code == httpx.codes.TOO_MANY_REQUESTS else ""
    if told.isdecimal():
        return float(told)
    try:
        return max(0.0, (parsedate_to_datetime(told) - datetime.now(UTC)).total_seconds())
    except (TypeError, ValueError):
        return None


def _read(response: httpx.Response) -> Any:
    try:
        raw = response.json()
    except ValueError as error:
        raise ServerError(
            f"{response.url}: status {response.status_code}, and no JSON. Is this a Foreword server?",
            status=response.status_code,
        ) from error
    if not response.is_success:
        raise _error(raw if isinstance(raw, Mapping) else {}, response.status_code)
    return raw


def _error(problem: Mapping[str, Any], status: int | None = None) -> ServerError:
    field = problem.get("field")
    parts = [problem.get("title", "The server refused"), field and f"field '{field}'", problem.get("detail")]
    return ServerError(
        ": ".join(part for part in parts if part),
        code=problem.get("code", ServerError.code),
        status=problem.get("status", status),
        request_id=problem.get("request_id"),
        field=field,
    )


def _result(raw: Mapping[str, Any]) -> Answer | Refused:
    if raw.get("error") is not None:
        return Refused(raw["input"], raw.get("task"), _error(raw["error"]))
    return Answer(
        raw["input"],
        raw["task"],
        raw.get("version"),
        raw["digest"],
        raw["answer"],
        raw.get("agreement"),
        tuple(Member(one["task"], one["version"], one["digest"], one["answer"]) for one in raw.get("members") or ()),
        tuple(raw.get("notes") or ()),
    )


def _task(raw: Mapping[str, Any]) -> ServedTask:
    labels = raw["labels"]
    return ServedTask(
        raw["task"],
        raw["kind"],
        raw["latest"],
        raw["aliases"],
        tuple(raw["versions"]),
        None if labels is None else tuple(labels),
        raw["fields"],
        raw["example"],
        tuple(
            ServedVersion(
                one["version"], one["digest"], one["created"], one["method"], one["metrics"], one["parameters"]
            )
            for one in raw.get("details", ())
        ),
    )
