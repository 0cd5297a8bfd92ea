"""`foreword predict`: JSON lines in, JSON lines out."""

# ruff: noqa: PLC0415  torch is imported when it is needed, so that `--help` is fast

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, BinaryIO

import typer

from foreword.cli.loading import BackboneName, open_engine, open_predictor
from foreword.cli.printing import examples, warn
from foreword.errors import DataError, OutputError, RecipeError

if TYPE_CHECKING:
    from foreword.inference.engine import Engine
    from foreword.inference.predictor import Predictor

EXAMPLES = examples(
    "foreword predict runs/tickets --input new.jsonl --output answers.jsonl",
    'echo \'{"text": "Where is my parcel?"}\' | foreword predict runs/tickets',
    "foreword predict --registry registry --input many-tasks.jsonl --output answers.jsonl",
)
PIPE = "-"


def predict(
    artifact: Annotated[
        Path | None, typer.Argument(metavar="[ARTIFACT]", help="An artifact, or the folder of the run that made it.")
    ] = None,
    *,
    registry: Annotated[
        Path | None,
        typer.Option(help='A registry instead: every line names its own, as in {"task": "tickets@champion", ...}.'),
    ] = None,
    input: Annotated[str, typer.Option(help="File of JSON lines, or - for standard input.")] = PIPE,
    output: Annotated[str, typer.Option(help="File to write, or - for standard output.")] = PIPE,
    batch_size: Annotated[
        int | None,
        typer.Option(min=1, help="Most rows per forward pass; 32, or 64 of several tasks.", show_default=False),
    ] = None,
    candidates: Annotated[
        int, typer.Option(min=0, help="List so many of the best answers too, for tasks that rank them (qa, probing).")
    ] = 0,
    backbone: BackboneName = None,
) -> None:
    """Answer one JSON object per line, in order.

    A line holds the fields the task reads, such as {"text": "..."}; `foreword inspect` names them.

    With --registry a line also holds the "task" that is to answer it: name, name@alias or name:version. Lines of all
    tasks share forward passes.

    Lines are answered in blocks as they come, so there may be any number of them.

    An output file is written whole or not at all.
    """
    from foreword.data.readers import parse_json_lines
    from foreword.data.readers.base import read_lines

    if (artifact is None) == (registry is None):
        raise RecipeError(
            "give an ARTIFACT, or --registry for lines that name their task themselves"
            + ("" if artifact is None else "; not both")
        )
    answering: Predictor | Engine
    if artifact is not None:
        answering = open_predictor(artifact, backbone, batch_size or 32)
    else:
        assert registry is not None
        answering = open_engine(registry, backbone, batch_size or 64)
    lines, name = (_piped_lines(), "<stdin>") if input == PIPE else (read_lines(input), input)
    with _open_output(output) as out:
        for answer in answering.stream(parse_json_lines(lines, name), candidates=candidates):
            out.write(json.dumps(answer, ensure_ascii=False).encode() + b"\n")
    for warning in answering.warnings:
        warn(warning)


def _piped_lines() -> Iterator[str]:
    for number, raw in enumerate(sys.stdin.buffer, start=1):
        try:
            yield raw.decode()
        except UnicodeDecodeError as error:
            raise DataError(f"not UTF-8 ({error.reason})", file="<stdin>", line=number) from error


@contextmanager
def _open_output(output: str) -> Iterator[BinaryIO]:
    """Standard output, or a file that appears when the block ends well."""
    if output == PIPE:
        yield sys.stdout.buffer
        return
    path = Path(output)
    if path.is_dir():
        raise OutputError(f"{path}: is a folder, expected a file")
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("wb") as file:
            yield file
        temporary.replace(path)
    except OSError as error:
        raise OutputError(f"{path}: cannot be written ({error.strerror or error})") from error
    finally:
        temporary.unlink(missing_ok=True)
