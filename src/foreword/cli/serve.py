"""`foreword serve`: the tasks of a registry over HTTP."""

# ruff: noqa: PLC0415  torch and the server are imported when they are needed, so that `--help` is fast

from __future__ import annotations

import os
from collections.abc import Callable
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from socket import socket
from typing import Annotated, Any

import typer

from foreword.cli.loading import DeviceName, size_option
from foreword.cli.printing import examples
from foreword.cli.scaling import check_ray, refuse, replicas_between, seen_from_anywhere
from foreword.errors import ForewordError, OutputError, RecipeError

EXAMPLES = examples(
    "foreword serve registry --backbone sentence-transformers/all-MiniLM-L6-v2",
    "foreword serve registry --backbone bert-base-uncased --budget 200MB --keys keys.toml",
    "foreword serve registry --backbone bert-base-uncased --ray --replicas 2",
    'curl localhost:8000/v1/predict --json \'{"task": "sst2", "inputs": ["A warm, funny film."]}\'',
)


def serve(
    registry: Annotated[Path, typer.Argument(metavar="REGISTRY", help="Folder of `foreword registry`.")],
    *,
    backbone: Annotated[str, typer.Option(help="Folder or hub name of the frozen model that all tasks share.")],
    language_model: Annotated[
        bool, typer.Option("--language-model", help="Load its vocabulary head too, for tasks that write or fill gaps.")
    ] = False,
    host: Annotated[str, typer.Option(help="Address to listen at; 0.0.0.0 for all of this machine.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port; 0 for any that is free.")] = 8000,
    workers: Annotated[
        int, typer.Option(min=1, max=64, help="Processes, each with a model of its own, at PORT, PORT+1, ...")
    ] = 1,
    ray: Annotated[bool, typer.Option("--ray", help="Serve from replicas behind Ray Serve (docs/scaling.md).")] = False,
    replicas: Annotated[int | None, typer.Option(min=1, help="With --ray: how many replicas.")] = None,
    autoscale: Annotated[
        str | None, typer.Option(metavar="MIN:MAX", help="With --ray: as many replicas as there is work for.")
    ] = None,
    budget: Annotated[
        str | None, typer.Option(metavar="SIZE", help="Most memory for prompts and heads, such as 200MB.")
    ] = None,
    bf16: Annotated[bool, typer.Option("--bf16", help="Compute in bfloat16.")] = False,
    device: DeviceName = None,
    threads: Annotated[int | None, typer.Option(min=1, help="Threads of a forward pass on a CPU.")] = None,
    keys: Annotated[Path | None, typer.Option(help="TOML file of who may ask what; everybody if left out.")] = None,
    admin_key_file: Annotated[
        Path | None, typer.Option(help="File with a key that may publish and move aliases; else nobody may.")
    ] = None,
    import_root: Annotated[
        Path | None, typer.Option(help="Folder whose artifacts may be published over HTTP, with the admin key.")
    ] = None,
    max_queue: Annotated[int | None, typer.Option(min=1, help="Most inputs in the house at once.")] = None,
    max_wait: Annotated[
        float | None, typer.Option(min=0.01, help="Most seconds of work that may wait; then requests are refused.")
    ] = None,
    max_inputs: Annotated[int | None, typer.Option(min=1, help="Most results of a request.")] = None,
    batch_tokens: Annotated[int | None, typer.Option(min=16, help="Most tokens of a forward pass.")] = None,
    batch_rows: Annotated[int | None, typer.Option(min=1, help="Most rows of a forward pass.")] = None,
    timeout: Annotated[float | None, typer.Option(min=0.001, help="Seconds until an answer is given up.")] = None,
    receipt: Annotated[float | None, typer.Option(min=0.1, help="Seconds for a request to arrive in.")] = None,
    grace: Annotated[float | None, typer.Option(min=0.1, help="Seconds to finish in, when told to stop.")] = None,
    notice: Annotated[float | None, typer.Option(min=0, help="Seconds of saying so before stopping.")] = None,
) -> None:
    """Answer many tasks over HTTP with one frozen model.

    Every request names its task, and rows of all tasks share a batch. What `foreword registry` publishes or moves is
    seen within a second, without a restart. The address itself shows a page to try it; /docs describes all routes.

    It stops on SIGTERM or Ctrl-C, after answering what was begun.
    """
    _check_extra()
    # Threads of a pass that wait for each other leave the cores to the event loop. It is read when torch is loaded.
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    if ray:
        check_ray()
        refuse({"--workers": workers if workers > 1 else None}, "is for one machine. With --ray it is --replicas")
        refuse({"--replicas": autoscale and replicas}, "and --autoscale exclude each other")
        refuse({"--port 0": port == 0, "--receipt": receipt}, "is not for --ray, whose proxy takes the requests in")
    else:
        refuse({"--replicas": replicas, "--autoscale": autoscale}, "needs --ray")
    if workers > 1:
        from foreword.serving.workers import run_workers

        raise typer.Exit(run_workers(workers, port))
    limits = {
        "max_queue": max_queue,
        "max_wait": max_wait,
        "max_inputs": max_inputs,
        "batch_tokens": batch_tokens,
        "batch_rows": batch_rows,
        "timeout": timeout,
        "receipt": receipt,
        "grace": grace,
        "notice": notice,
    }
    settings = _settings(keys, admin_key_file, import_root, {name: v for name, v in limits.items() if v is not None})
    make_engine = partial(
        _engine,
        registry.absolute(),
        seen_from_anywhere(backbone) if ray else backbone,
        language_model=language_model,
        budget=None if budget is None else size_option("--budget", budget),
        bf16=bf16,
        device=device or ("cpu" if ray else None),  # Ray gives its replicas no GPU
        threads=threads,
    )
    if ray:
        least, most = replicas_between(autoscale) if autoscale else (replicas or 1, replicas or 1)
        _serve_on_ray(make_engine, settings, host, port, registry=registry, least=least, most=most, cpus=threads or 1)
    else:
        _listen(make_engine(), settings, host, port)


def _check_extra() -> None:
    missing = [name for name in ("fastapi", "uvicorn", "prometheus_client") if find_spec(name) is None]
    if missing:
        raise ForewordError(f"serving needs {', '.join(missing)}. Install them: pip install 'foreword[serve]'")


def _settings(keys: Path | None, admin: Path | None, imports: Path | None, limits: dict[str, Any]) -> Any:
    from foreword.serving import ServingSettings
    from foreword.serving.keys import read_admin_key, read_keys

    if imports is not None and admin is None:
        raise RecipeError("--import-root is for publishing over HTTP, which needs --admin-key-file")
    if imports is not None and not imports.is_dir():
        raise OutputError(f"--import-root: {imports} is no folder")
    return ServingSettings(
        keys=None if keys is None else read_keys(keys),
        admin=None if admin is None else read_admin_key(admin),
        imports=imports,
        **limits,
    )


def _engine(
    registry: Path,
    backbone: str,
    *,
    language_model: bool,
    budget: int | None,
    bf16: bool,
    device: str | None,
    threads: int | None,
) -> Any:
    import torch

    from foreword.backbones import device_named, load_backbone
    from foreword.inference.engine import Engine
    from foreword.registry import Registry

    found = Registry(registry)
    if threads is not None:
        torch.set_num_threads(threads)
    model = load_backbone(backbone, language_model=language_model, device=device_named(device))
    return Engine(model, found, budget=budget, bf16=bf16)


def _listen(engine: Any, settings: Any, host: str, port: int) -> None:
    from foreword.serving import create_app
    from foreword.serving.logs import to_stderr
    from foreword.serving.server import make_server

    app = create_app(engine, settings)
    to_stderr()
    server = make_server(app)
    sock = _socket(host, port)
    _say_where(len(engine.source.names()), host, sock.getsockname()[1])
    server.run(sockets=[sock])


def _serve_on_ray(
    make_engine: Callable[[], Any],
    settings: Any,
    host: str,
    port: int,
    *,
    registry: Path,
    least: int,
    most: int,
    cpus: int,
) -> None:
    from foreword.registry import Registry
    from foreword.scaling.serving import Scale, replicas, wait_for_signal

    tasks = len(Registry(registry).names())
    _socket(host, port).close()
    with replicas(make_engine, settings, Scale(least, most, cpus), host=host, port=port):
        _say_where(tasks, host, port)
        wait_for_signal()


def _socket(host: str, port: int) -> socket:
    from foreword.serving.server import listening_socket

    try:
        return listening_socket(host, port)
    except OSError as error:
        raise ForewordError(
            f"cannot listen at {host}:{port} ({error.strerror or error}). Choose another --port"
        ) from error


def _say_where(tasks: int, host: str, port: int) -> None:
    typer.echo(f"Serving {tasks} tasks at http://{host}:{port}", err=True)
