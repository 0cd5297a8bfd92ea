"""`foreword export`: an artifact's prompt in the format of another library."""

# ruff: noqa: PLC0415  torch is imported when it is needed, so that `--help` is fast

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from foreword.cli.loading import ArtifactPath, BackboneName
from foreword.cli.printing import examples, print_table

EXAMPLES = examples(
    "foreword export peft runs/rte --output adapter/",
    "foreword export google runs/sst2 --output sst2.npy --prompt-only",
)


def export(
    form: Annotated[str, typer.Argument(metavar="FORMAT", help="peft or google.")],
    artifact: ArtifactPath,
    output: Annotated[Path, typer.Option("--output", help="The adapter's folder, or the prompt's file.")],
    backbone: BackboneName = None,
    prompt_only: Annotated[bool, typer.Option("--prompt-only", help="Leave the head behind.")] = False,
) -> None:
    """Write an artifact's prompt in the format of another library.

    What that format has no words for is refused. Of the backbone only its config is read.
    """
    from foreword.artifacts.format import load_artifact
    from foreword.cli.catalogue import pick
    from foreword.exchange import EXPORTS, export_prompt

    pick(EXPORTS, form, "format to export to")
    export_prompt(form, load_artifact(artifact), output, backbone=backbone, prompt_only=prompt_only)
    print_table([(form, str(output))])
