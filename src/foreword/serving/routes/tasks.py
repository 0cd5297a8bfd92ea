"""`GET /v1/tasks`: what there is to ask."""

from __future__ import annotations

from fastapi import Request

from foreword.serving.problems import unknown_task
from foreword.serving.routes import problems, router
from foreword.serving.schemas import TaskDetails, TaskList
from foreword.serving.service import caller_of, service_of

routes = router("/v1", "Tasks")


@routes.get("/tasks", responses=problems())
def tasks(request: Request) -> TaskList:
    """The frozen model, and every task that this caller may ask."""
    return service_of(request).catalogue.tasks(caller_of(request))


@routes.get("/tasks/{name}", responses=problems("task.unknown"))
def task(name: str, request: Request) -> TaskDetails:
    """One task with all its versions."""
    found = service_of(request).catalogue.task(name) if caller_of(request).may_ask(name) else None
    if found is None:
        raise unknown_task("name")
    return found
