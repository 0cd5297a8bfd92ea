"""`foreword import`: an artifact out of a prompt that another library trained."""

# ruff: noqa: PLC0415  torch is imported when it is needed, so that `--help` is fast

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from foreword.cli.printing import examples, folder_size, print_table, warn
from foreword.studies.wording import size

EXAMPLES = examples(
    "foreword import peft adapter/ --backbone bert-large-cased --task classification --labels no,yes --output rte",
    "foreword import ptuning-v2 model.bin --backbone roberta-large --task ner --labels O,B-PER,I-PER --output ner",
    "foreword import google sst2.npy --backbone google/t5-base-lm-adapt --task task.toml --prompt-only --output sst2",
)


def import_(
    form: Annotated[str, typer.Argument(metavar="FORMAT", help="peft, ptuning-v2, prefix-tuning or google.")],
    source: Annotated[Path, typer.Argument(metavar="SOURCE", help="The checkpoint: a file, or the folder it lies in.")],
    *,
    backbone: Annotated[str, typer.Option("--backbone", help="Folder or hub name of the model it was trained on.")],
    task: Annotated[str, typer.Option("--task", help="A task, or a TOML file with a [task] table, such as a recipe.")],
    output: Annotated[Path, typer.Option("--output", help="Folder of the artifact.")],
    labels: Annotated[
        str | None,
        typer.Option("--labels", help="Names of the head's outputs, in order: labels, or for ner tags (O,B-PER,...)."),
    ] = None,
    prompt_only: Annotated[
        bool, typer.Option("--prompt-only", help="Leave the head out: to start training from, not to predict with.")
    ] = False,
    revision: Annotated[str | None, typer.Option("--revision", help="Branch, tag or commit of the backbone.")] = None,
    language_model: Annotated[
        bool, typer.Option("--language-model", help="Load the backbone with its vocabulary head, and its decoder.")
    ] = False,
) -> None:
    """Make an artifact of a prompt that another library trained.

    What the other format says otherwise than Foreword could is refused, never bent. Training and scores
    are not known of an imported prompt, and its artifact says so.
    """
    from foreword.backbones import load_backbone
    from foreword.cli.catalogue import pick
    from foreword.exchange import IMPORTS, import_prompt
    from foreword.recipes.load import load_task

    pick(IMPORTS, form, "format to import")
    chosen = load_task(task)
    names = tuple(name.strip() for name in labels.split(",")) if labels else ()
    whole = language_model or chosen.needs_language_model
    loaded = load_backbone(backbone, revision=revision, language_model=whole)
    for warning in import_prompt(form, source, loaded, chosen, output, outputs=names, prompt_only=prompt_only):
        warn(warning)
    print_table([("artifact", f"{output} ({size(folder_size(output))})")])
