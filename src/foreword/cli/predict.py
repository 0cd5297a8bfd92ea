"""`foreword predict`: JSON lines in, JSON lines out."""

# ruff: noqa: PLC0415  torch is imported when it is needed, so that `--help` is fast

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, BinaryIO

import typer

from foreword.cli.loading import (
    AnyArtifactPaths,
    BackboneName,
    DeviceName,
    TrunkBytes,
    TrunkPlace,
    VoteName,
    check_together,
    open_engine,
    open_ensemble,
    open_predictor,
)
from foreword.cli.printing import examples, warn
from foreword.cli.scaling import check_ray, refuse, seen_from_anywhere
from foreword.errors import DataError, OutputError, RecipeError

if TYPE_CHECKING:
    from foreword.inference.engine import Vote
    from foreword.scaling.scoring import Answering, Scores

EXAMPLES = examples(
    "foreword predict runs/tickets --input new.jsonl --output answers.jsonl",
    'echo \'{"text": "Where is my parcel?"}\' | foreword predict runs/tickets',
    "foreword predict --registry registry --input many-tasks.jsonl --output answers.jsonl",
)
PIPE = "-"
_WORKERS = 2


def predict(
    artifacts: AnyArtifactPaths = None,
    *,
    registry: Annotated[
        Path | None,
        typer.Option(help='A registry instead: every line names its own, as in {"task": "tickets@champion", ...}.'),
    ] = None,
    input: Annotated[str, typer.Option(help="File of JSON lines, or - for standard input.")] = PIPE,
    output: Annotated[str, typer.Option(help="File to write, or - for standard output.")] = PIPE,
    batch_size: Annotated[
        int | None,
        typer.Option(min=1, help="Most rows per forward pass; 32, or 64 of several artifacts.", show_default=False),
    ] = None,
    candidates: Annotated[
        int, typer.Option(min=0, help="List so many of the best answers too, for tasks that rank them (qa, probing).")
    ] = 0,
    vote: VoteName = None,
    backbone: BackboneName = None,
    device: DeviceName = None,
    trunk_cache: TrunkPlace = None,
    trunk_cache_bytes: TrunkBytes = None,
    ray: Annotated[bool, typer.Option("--ray", help="Answer a file in several processes (docs/scaling.md).")] = False,
    workers: Annotated[
        int | None, typer.Option(min=1, help="With --ray: processes, each with a model of its own; 2.")
    ] = None,
) -> None:
    """Answer one JSON object per line, in order.

    A line holds the fields the task reads, such as {"text": "..."}; `foreword inspect` names them.

    Several artifacts answer as an ensemble, each line with their agreement and what each of them says.

    With --registry a line also holds the "task" that is to answer it: name, name@alias or name:version. Lines of all
    tasks share forward passes.

    Lines are answered in blocks as they come, so there may be any number of them.

    An output file is written whole or not at all.
    """
    from foreword.data.readers.base import is_packed

    if ray:
        check_ray()
        backbone = backbone and seen_from_anywhere(backbone)
        refuse({"--input -": input == PIPE}, "is not for --ray, which reads a file in many places at once")
        refuse({f"--input {input}": is_packed(input)}, "is packed, and --ray reads a file in many places: unpack it")
        device = device or "cpu"  # Ray gives its workers no GPU
    else:
        refuse({"--workers": workers}, "needs --ray")
    given = [path.absolute() if ray else path for path in artifacts or ()]
    check_together(len(given), vote, trunk_cache, trunk_cache_bytes, registry)
    trunk = {"trunk": trunk_cache, "trunk_bytes": trunk_cache_bytes}
    make = _maker(
        given, registry, vote=vote or "mean", backbone=backbone, batch_size=batch_size, device=device, **trunk
    )
    answers: Scores | _Answers
    if ray:
        from foreword.scaling.scoring import Scores

        answers = Scores(input, make, workers=workers or _WORKERS, candidates=candidates)
    else:
        answers = _Answers(make(), input, candidates)
    with _open_output(output) as out:
        out.writelines(answers)
    for warning in answers.warnings:
        warn(warning)


class _Answers:
    """Answers of this process as JSON lines, in order."""

    def __init__(self, answering: Answering, input: str, candidates: int) -> None:
        self._answering, self._input, self._candidates = answering, input, candidates

    def __iter__(self) -> Iterator[bytes]:
        from foreword.data.readers import parse_json_lines
        from foreword.data.readers.base import read_lines

        name, lines = ("<stdin>", _piped_lines()) if self._input == PIPE else (self._input, read_lines(self._input))
        for answer in self._answering.stream(parse_json_lines(lines, name), candidates=self._candidates, first=0):
            yield json.dumps(answer, ensure_ascii=False).encode() + b"\n"

    @property
    def warnings(self) -> list[str]:
        return self._answering.warnings


def _maker(
    artifacts: list[Path],
    registry: Path | None,
    *,
    vote: Vote,
    backbone: str | None,
    batch_size: int | None,
    device: str | None,
    **trunk: Any,
) -> Callable[[], Answering]:
    """What makes what answers, wherever it is called.

    Raises:
        RecipeError: neither or both are given.
    """
    if bool(artifacts) == (registry is not None):
        raise RecipeError(
            "give an ARTIFACT, or --registry for lines that name their task themselves"
            + ("; not both" if artifacts else "")
        )
    if registry is not None:
        return partial(open_engine, registry.absolute(), backbone, batch_size or 64, device=device)
    if len(artifacts) > 1:
        return partial(open_ensemble, artifacts, vote, backbone, batch_size or 64, device=device)
    return partial(open_predictor, artifacts[0], backbone, batch_size or 32, device=device, **trunk)


def _piped_lines() -> Iterator[str]:
    for number, raw in enumerate(sys.stdin.buffer, start=1):
        try:
            yield raw.decode()
        except UnicodeDecodeError as error:
            raise DataError(f"not UTF-8 ({error.reason})", file="<stdin>", line=number) from error


@contextmanager
def _open_output(output: str) -> Iterator[BinaryIO]:
    """Standard output, or a file that appears when the block ends well."""
    from foreword.artifacts.folders import whole_file

    if output == PIPE:
        yield sys.stdout.buffer
        return
    path = Path(output)
    if path.is_dir():
        raise OutputError(f"{path}: is a folder, expected a file")
    with whole_file(path) as file:
        yield file
