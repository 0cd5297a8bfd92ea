"""Requests and answers. Every size is bounded here, before anything is made of it."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, JsonValue, model_validator

MOST_INPUTS = 1024
MOST_MEMBERS = 32
MOST_FIELDS = 64

Reference = Annotated[
    str,
    Field(
        min_length=1,
        max_length=160,
        description="`name` (its latest version), `name@alias`, `name:3` or `name@sha256:...`",
        examples=["sst2", "sst2@champion", "sst2:3"],
    ),
]
Record = Annotated[dict[Annotated[str, Field(max_length=100)], JsonValue], Field(max_length=MOST_FIELDS)]
Text = Annotated[str, Field(max_length=1_000_000)]


class Strict(BaseModel):
    """Nothing unknown, nothing bent into another type."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True, allow_inf_nan=False)


class Ensemble(Strict):
    """Several versions or tasks with the same labels, asked at once and put to a vote."""

    members: list[Reference] = Field(min_length=2, max_length=MOST_MEMBERS)
    """References of the members."""
    vote: Literal["mean", "majority"] = "mean"
    """Mean of the probabilities, or the answer that most give."""


class Options(Strict):
    """How a request is answered."""

    timeout_ms: int | None = Field(default=None, ge=1, le=600_000, strict=True)
    """Milliseconds until the answer is of no use any more; what is not begun by then is not computed."""
    truncate: bool = Field(default=True, strict=True)
    """Whether a text that is too long may lose its end (it is noted); if not, it is an error."""
    candidates: int = Field(default=0, ge=0, le=100, strict=True)
    """List so many of the best answers too, of tasks that rank them."""


class PredictRequest(Strict):
    """Inputs, and whom to ask. An input may name its own task under "task"."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {"task": "sst2@champion", "inputs": [{"text": "A warm, funny film."}]},
                {"tasks": ["sst2", "ner"], "inputs": ["Anna liked London."]},
                {"inputs": [{"task": "sst2", "text": "Dull."}, {"task": "qa", "question": "Who?", "context": "Anna."}]},
                {"ensemble": {"members": ["sst2:1", "sst2:2"], "vote": "mean"}, "inputs": ["Fine."]},
            ]
        }
    )

    inputs: list[Text | Record] = Field(min_length=1, max_length=MOST_INPUTS)
    """Objects with the fields the task reads; a text alone means {"text": text}."""
    task: Reference | None = None
    """Whom to ask, where an input does not say."""
    tasks: list[Reference] | None = Field(default=None, min_length=1, max_length=MOST_MEMBERS)
    """Ask every input of each of these."""
    ensemble: Ensemble | None = None
    """Ask several at once and put it to a vote."""
    options: Options = Options()

    @model_validator(mode="after")
    def _one_way_to_ask(self) -> PredictRequest:
        if sum(way is not None for way in (self.task, self.tasks, self.ensemble)) > 1:
            raise ValueError("expected one of task, tasks and ensemble")
        return self


class ProblemBody(BaseModel):
    """What goes wrong (RFC 9457)."""

    type: str
    title: str
    status: int
    code: str
    detail: str
    request_id: str
    field: str | None = None
    results: list[Result] | None = None


class Member(BaseModel):
    """What one member of an ensemble said."""

    task: str
    version: int | None
    digest: str
    answer: dict[str, Any]


class Result(BaseModel):
    """The answer to one input by one task, or why there is none."""

    input: int
    task: str | None = None
    version: int | None = None
    digest: str | None = None
    answer: dict[str, Any] | None = None
    agreement: float | None = None
    members: list[Member] | None = None
    notes: list[str] | None = None
    error: ProblemBody | None = None


class Latency(BaseModel):
    """Milliseconds: waiting for the model, in the model, and all in all."""

    queue: float
    forward: float
    total: float


class BatchInfo(BaseModel):
    """What shared the forward pass that answered last."""

    rows: int
    tasks: int


class PredictResponse(BaseModel):
    """One result per input and task, in the order asked."""

    request_id: str
    model: str
    results: list[Result]
    latency_ms: Latency
    batch: BatchInfo


class TaskInfo(BaseModel):
    """A task that can be asked."""

    task: str
    kind: str
    latest: int | None
    aliases: dict[str, int]
    versions: list[int]
    labels: list[str] | None
    fields: dict[str, bool]
    example: dict[str, Any]
    resident: bool
    last_used: float | None


class VersionInfo(BaseModel):
    """One published version of a task."""

    version: int
    digest: str
    created: str
    method: str
    metrics: dict[str, float]
    main: str
    parameters: int


class TaskDetails(TaskInfo):
    """A task with its versions."""

    details: list[VersionInfo]


class ModelInfo(BaseModel):
    """The frozen model that all tasks share."""

    name: str
    digest: str
    max_length: int


class TaskList(BaseModel):
    """The tasks this caller may ask."""

    model: ModelInfo
    tasks: list[TaskInfo]


class CompletionRequest(Strict):
    """As in OpenAI's API, for tasks that write. How a text is searched for is a setting of the task."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"model": "summaries", "prompt": "A long story."}]})

    model: Reference
    """The task."""
    prompt: Text | Annotated[list[Text], Field(min_length=1, max_length=MOST_INPUTS)]
    """One text, or several."""
    n: Literal[1] = 1
    """One text is written for each."""
    stream: Literal[False] = False
    """Texts come whole."""
    user: str | None = Field(default=None, max_length=200)
    """Not looked at."""


class Choice(BaseModel):
    """A text that was written."""

    index: int
    text: str
    finish_reason: Literal["stop"] = "stop"
    logprobs: None = None


class Usage(BaseModel):
    """Tokens read and written."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int


class CompletionResponse(BaseModel):
    """As in OpenAI's API, with what answered."""

    id: str
    object: Literal["text_completion"] = "text_completion"
    created: int
    model: str
    choices: list[Choice]
    usage: Usage
    task: str
    version: int | None
    digest: str
    backbone: str


class AliasRequest(Strict):
    """Where an alias points."""

    version: int = Field(ge=1, le=2**31, strict=True)


class PublishRequest(Strict):
    """Which folder below the server's import folder becomes a version."""

    folder: str = Field(min_length=1, max_length=160, pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")
    aliases: list[Annotated[str, Field(max_length=64, pattern=r"^[a-z0-9][a-z0-9._-]*$")]] = Field(
        default=[], max_length=16
    )


class Published(BaseModel):
    """A version that was made."""

    task: str
    version: int
    digest: str


ProblemBody.model_rebuild()
