"""Changes of the registry while the server runs. There are no such routes unless an admin key is set."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from fastapi import Query, Request, Response

from foreword.errors import ForewordError, RegistryError, UnknownReference
from foreword.registry import Version
from foreword.serving.problems import Problem, unknown_task
from foreword.serving.routes import problems, router
from foreword.serving.schemas import AliasRequest, Published, PublishRequest
from foreword.serving.service import Service, service_of

routes = router("/admin", "Administration")

ResultT = TypeVar("ResultT")


@routes.put("/tasks/{name}/aliases/{alias}", responses=problems("task.unknown", "task.conflict"))
def set_alias(name: str, alias: str, body: AliasRequest, request: Request) -> Published:
    """Let an alias point to another version; what is asked from now on is answered by that."""
    service = service_of(request)
    _changed(lambda: service.registry.set_alias(name, alias, body.version))
    return _published(_changed(lambda: service.registry.resolve(f"{name}@{alias}")))


@routes.delete("/tasks/{name}/aliases/{alias}", status_code=204, responses=problems("task.unknown", "task.conflict"))
def remove_alias(name: str, alias: str, request: Request) -> Response:
    """Remove an alias."""
    service = service_of(request)
    _changed(lambda: service.registry.remove_alias(name, alias))
    return Response(status_code=204)


@routes.post("/tasks/{name}", status_code=201, responses=problems("task.unknown", "task.conflict"))
def publish(name: str, body: PublishRequest, request: Request) -> Published:
    """Publish an artifact that lies in the server's import folder, by its name there."""
    service = service_of(request)
    folder = _import_folder(service, body.folder)
    return _published(_changed(lambda: service.registry.add(folder, name, aliases=body.aliases)))


@routes.delete("/tasks/{name}", status_code=204, responses=problems("task.unknown", "task.conflict"))
def remove(name: str, request: Request, version: int | None = Query(default=None, ge=1, le=2**31)) -> Response:
    """Remove a version, or the whole task. Work in flight keeps what it holds."""
    service = service_of(request)
    if version is None:
        _changed(lambda: service.registry.remove(name, every=True))
    else:
        _changed(lambda: service.registry.remove(f"{name}:{version}"))
    return Response(status_code=204)


def _changed(change: Callable[[], ResultT]) -> ResultT:
    """Make a change; the registry's own words may hold paths, so they stay here.

    Raises:
        Problem: it refused.
    """
    try:
        return change()
    except UnknownReference:
        raise unknown_task("name") from None
    except RegistryError:
        raise Problem(
            "task.conflict",
            "The registry refuses this: a name or an alias that is none, or a version still pointed to. "
            "`foreword registry` on the server's machine says more",
        ) from None
    except ForewordError:
        raise Problem("task.damaged", "The artifact is damaged, or no such one", status=422) from None


def _import_folder(service: Service, wanted: str) -> Path:
    """Found in a listing; the name that was sent is never made part of a path."""
    root = service.settings.imports
    if root is None:
        raise Problem("task.conflict", "This server publishes nothing over HTTP: it has no import folder")
    for folder in sorted(root.iterdir()):
        if folder.name == wanted and folder.is_dir() and not folder.is_symlink():
            return folder
    raise Problem("task.unknown", "There is no such folder in the import folder", field="folder")


def _published(version: Version) -> Published:
    return Published(task=version.name, version=version.number, digest=version.digest)
