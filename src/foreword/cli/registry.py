"""`foreword registry`: artifacts published under a name, with versions and aliases."""

# ruff: noqa: PLC0415  torch is imported when it is needed, so that `--help` is fast

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from foreword.cli.loading import ArtifactPath
from foreword.cli.printing import examples, print_table
from foreword.errors import RegistryError
from foreword.studies.wording import size

if TYPE_CHECKING:
    from foreword.registry import Registry

app = typer.Typer(
    no_args_is_help=True,
    help="Publish artifacts under a name, with versions and aliases, for servers to answer from.",
    epilog=examples(
        "foreword registry add models runs/sst2 sst2 --alias champion",
        "foreword registry list models",
        "foreword registry alias models sst2:3 champion",
        "foreword registry verify models",
    ),
)

RegistryPath = Annotated[Path, typer.Argument(metavar="REGISTRY", help="Folder of the registry.")]
TaskName = Annotated[
    str, typer.Argument(metavar="NAME", help="Name of the task: small letters, digits, '.', '_' and '-'.")
]
ReferenceText = Annotated[
    str, typer.Argument(metavar="REFERENCE", help="A version: sst2, sst2@champion, sst2:3 or sst2@sha256:0123456789ab.")
]
Aliases = Annotated[
    list[str] | None, typer.Option("--alias", metavar="WORD", help="What else shall stand for it; may be repeated.")
]
Unfolded = Annotated[
    bool, typer.Option("--unfolded", help="Keep the numbers that only training needs, to train on from.")
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]

_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400}


@app.command()
def add(
    registry: RegistryPath, artifact: ArtifactPath, name: TaskName, alias: Aliases = None, unfolded: Unfolded = False
) -> None:
    """Publish an artifact as the next version of a task, and let 'latest' stand for it.

    The registry is made where there is none.
    """
    _publish(registry, artifact, name, alias or (), unfolded=unfolded)


@app.command(name="list")
def list_(
    registry: RegistryPath,
    name: Annotated[str | None, typer.Argument(metavar="NAME", help="List the versions of this task.")] = None,
    as_json: AsJson = False,
) -> None:
    """List the tasks, or the versions of one."""
    from foreword.registry import Registry

    found = Registry(registry)
    if name is None:
        rows = [_summary(found, task, f"{task}@latest") for task in found.names()]
    else:
        rows = [_summary(found, name, f"{name}:{number}") for number in found.numbers(name)]
    if as_json:
        typer.echo(json.dumps(rows, indent=2, ensure_ascii=False))
    elif rows:
        columns = ("reference", "aliases", "kind", "method", "score", "backbone", "size", "published")
        print_table([[_cell(row.get(column)) for column in columns] for row in rows], columns)


@app.command()
def show(registry: RegistryPath, reference: ReferenceText, as_json: AsJson = False) -> None:
    """Say what a version is, what it fits, and how it was made. Its files are checked on the way."""
    from foreword.cli.inspect import print_sections
    from foreword.registry import Registry

    found = Registry(registry)
    version = found.resolve(reference)
    artifact = found.open(version)
    told: dict[str, Any] = {
        "reference": version.reference,
        "digest": version.digest,
        "published": version.published,
        "aliases": _called(found, version.name, version.number),
    }
    if as_json:
        manifest = version.manifest.model_dump(mode="json")
        typer.echo(json.dumps({**told, "manifest": manifest}, indent=2, ensure_ascii=False))
        return
    print_table([(name, _cell(value)) for name, value in told.items()])
    typer.echo()
    print_sections(artifact)


@app.command()
def alias(
    registry: RegistryPath,
    reference: ReferenceText,
    word: Annotated[str, typer.Argument(metavar="ALIAS", help="A word, such as champion, or latest.")],
    remove: Annotated[bool, typer.Option("--remove", help="Let it stand for nothing.")] = False,
) -> None:
    """Let an alias stand for a version, or for nothing any more. Servers that run see it at once."""
    from foreword.registry import Registry

    found = Registry(registry)
    version = found.resolve(reference)
    if remove:
        found.remove_alias(version.name, word)
    else:
        found.set_alias(version.name, word, version.number)
    print_table([(f"{version.name}@{word}", "nothing" if remove else version.reference)])


@app.command()
def remove(
    registry: RegistryPath,
    reference: ReferenceText,
    every: Annotated[bool, typer.Option("--every", help="All versions of the task of this name.")] = False,
) -> None:
    """Take a version back. Its number is never used again, and its files stay until `gc`."""
    from foreword.registry import Registry

    print_table([("removed", gone) for gone in Registry(registry).remove(reference, every=every)])


@app.command()
def gc(
    registry: RegistryPath,
    grace: Annotated[
        str, typer.Option("--grace", help="How long files stay after they were written, or their version removed.")
    ] = "24h",
) -> None:
    """Delete files that no version needs, and what killed writers left behind."""
    from foreword.registry import Registry

    deleted = Registry(registry).collect(grace=_seconds(grace))
    print_table([("deleted", f"{deleted.files} files, {size(deleted.bytes)}")])


@app.command()
def verify(registry: RegistryPath, as_json: AsJson = False) -> None:
    """Read everything through, and say what is damaged, missing, or does not belong there."""
    from foreword.registry import Registry

    found = Registry(registry)
    faults = found.verify()
    if as_json:
        typer.echo(json.dumps([fault._asdict() for fault in faults], indent=2, ensure_ascii=False))
    elif faults:
        print_table(faults, ("subject", "problem"))
    else:
        count = sum(len(found.numbers(name)) for name in found.names())
        print_table([("sound", f"{count} versions of {len(found.names())} tasks")])
    if faults:
        raise RegistryError(f"{registry}: {len(faults)} {'fault' if len(faults) == 1 else 'faults'}")


@app.command()
def push(
    registry: RegistryPath,
    reference: ReferenceText,
    target: Annotated[str, typer.Argument(metavar="TARGET", help="A new folder, or hf://owner/name on the hub.")],
) -> None:
    """Write a version as an artifact that stands on its own, into a folder or onto the hub."""
    from foreword.registry import Registry

    found = Registry(registry)
    print_table([(found.resolve(reference).reference, found.push(reference, target))])


@app.command()
def pull(
    registry: RegistryPath,
    source: Annotated[
        str, typer.Argument(metavar="SOURCE", help="A folder, or hf://owner/name (or ...@revision) on the hub.")
    ],
    name: TaskName,
    alias: Aliases = None,
    unfolded: Unfolded = False,
) -> None:
    """Publish an artifact that lies in a folder or on the hub. The registry is made where there is none."""
    from foreword.registry.hub import pulled

    with pulled(source) as folder:
        _publish(registry, folder, name, alias or (), unfolded=unfolded)


def _publish(root: Path, artifact: Path, name: str, aliases: Sequence[str], *, unfolded: bool) -> None:
    """Publish an artifact in a registry, which is made where there is none, but not for what cannot be published."""
    from foreword.registry import Registry
    from foreword.registry.registry import publishable

    if not root.exists():
        publishable(artifact, name, aliases)
    version = Registry(root, create=True).add(artifact, name, aliases=aliases, unfolded=unfolded)
    print_table([(version.reference, f"sha256:{version.digest}")])


def _summary(registry: Registry, name: str, reference: str) -> dict[str, Any]:
    """A row of a list; of a damaged version it says only that."""
    try:
        version = registry.resolve(reference)
        aliases = _called(registry, name, version.number)
    except RegistryError as error:
        return {"reference": reference, "aliases": [], "damage": str(error), "kind": "damaged, see verify"}
    manifest = version.manifest
    score = manifest.metrics.values.get(manifest.metrics.main)
    return {
        "reference": version.reference,
        "aliases": aliases,
        "kind": manifest.task.type,
        "method": manifest.method.type,
        "score": None if score is None else f"{manifest.metrics.main} {score:.4f}",
        "backbone": manifest.backbone.name,
        "size": sum(entry.bytes for entry in manifest.files.values()),
        "published": version.published,
        "digest": version.digest,
    }


def _called(registry: Registry, name: str, number: int) -> list[str]:
    return [alias for alias, other in registry.aliases(name).items() if other == number]


def _cell(value: Sequence[str] | str | int | None) -> str:
    if isinstance(value, int):
        return size(value)
    return value if isinstance(value, str) else ", ".join(value or ())


def _seconds(text: str) -> float:
    found = re.fullmatch(r"(\d{1,6})([smhd])", text)
    if found is None:
        raise RegistryError(f"--grace {text!r}: give a number and a unit, such as 90s, 30m, 24h or 7d")
    return int(found[1]) * _SECONDS[found[2]]
