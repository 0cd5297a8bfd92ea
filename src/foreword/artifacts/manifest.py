"""What `artifact.json` says: everything about an artifact but its numbers."""

from __future__ import annotations

import json
import platform
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, NonNegativeInt, PositiveInt, ValidationError, field_validator

from foreword.data.readers.base import parse_json
from foreword.errors import ArtifactError

FORMAT_VERSION = 1
MOST_MANIFEST_BYTES = 16 << 20


class Part(BaseModel):
    """Base of all parts: nothing unknown, nothing changed after reading."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, use_attribute_docstrings=True)


class BackboneEntry(Part):
    """The backbone an artifact was made for; see `BackboneIdentity`."""

    name: str
    revision: str | None
    family: str
    weights: str
    language_model: str | None
    dtype: Literal["float64", "float32", "bfloat16", "float16"]
    tokenizer: str
    quantization: Literal["int8", "bitsandbytes-8bit", "bitsandbytes-4bit"] | None = None


class Component(Part):
    """A task or a method: its word in the table and its settings."""

    type: str
    settings: dict[str, Any]


class DataEntry(Part):
    """One side of the data.

    Attributes:
        files: name of each file -> sha256 of its bytes (of the records, where they were no file).
        examples, rows: how many; an example may take several rows.
        notes: what was done to make examples fit -> how many.
    """

    files: dict[str, str]
    examples: NonNegativeInt
    rows: NonNegativeInt
    notes: dict[str, NonNegativeInt]


class MetricsEntry(Part):
    """Scores: fractions or correlations, the counts behind them, and measures on scales of their own."""

    main: str
    values: dict[str, float]
    counts: dict[str, int]
    measures: dict[str, float] = {}


class ParametersEntry(Part):
    """Numbers of parameters: trained ones by part, and the backbone's own."""

    prompt: NonNegativeInt
    attachment: NonNegativeInt = 0
    head: NonNegativeInt
    backbone_trained: NonNegativeInt
    backbone: PositiveInt

    @property
    def trained(self) -> int:
        """All that was trained."""
        return self.prompt + self.attachment + self.head + self.backbone_trained


class TrainingEntry(Part):
    """How the run went."""

    seed: NonNegativeInt
    steps: NonNegativeInt
    best_step: NonNegativeInt
    seconds: float
    padding: float
    evaluations: list[dict[str, Any]]
    trunk_cache: dict[str, NonNegativeInt] | None = None


class FileEntry(Part):
    """One file of the artifact."""

    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
    bytes: NonNegativeInt


class Manifest(Part):
    """`artifact.json`."""

    format: Literal["foreword-artifact"] = "foreword-artifact"
    format_version: int
    created: str
    backbone: BackboneEntry
    task: Component
    method: Component
    recipe: dict[str, Any]
    max_length: PositiveInt | None
    data: dict[str, DataEntry]
    metrics: MetricsEntry
    test: MetricsEntry | None = None
    parameters: ParametersEntry
    training: TrainingEntry
    versions: dict[str, str]
    files: dict[str, FileEntry]

    @property
    def imported(self) -> dict[str, Any] | None:
        """What is known of the foreign checkpoint this was made from; None where it was trained here.

        Of an imported prompt there is no training, no data and no score: those parts are empty or zero.
        """
        return self.recipe.get("imported")

    @field_validator("recipe")
    @classmethod
    def _tables(cls, recipe: dict[str, Any]) -> dict[str, Any]:
        for name, value in recipe.items():
            if not isinstance(value, str if name == "name" else dict):
                raise ValueError(f"'{name}' is not a {'text' if name == 'name' else 'table'}")  # noqa: TRY004  pydantic's
        return recipe


def manifest_bytes(manifest: Manifest) -> bytes:
    """What `artifact.json` holds."""
    text = json.dumps(manifest.model_dump(mode="json"), indent=2, ensure_ascii=False)
    return f"{text}\n".encode()


def parse_manifest(content: bytes, where: Path) -> Manifest:
    """The way back from `manifest_bytes`.

    Args:
        content: of the file.
        where: what errors begin with.

    Raises:
        ArtifactError: naming the field that is wrong.
    """
    try:
        if len(content) > MOST_MANIFEST_BYTES:
            raise ArtifactError(f"{where}: has more than {MOST_MANIFEST_BYTES} bytes")
        raw = parse_json(content.decode("utf-8"))
        found = raw.get("format_version") if isinstance(raw, dict) else None
        if found != FORMAT_VERSION:
            raise ArtifactError(f"{where}: format version {found!r}; this Foreword reads version {FORMAT_VERSION}")
        return Manifest.model_validate(raw)
    except ValidationError as error:
        first = error.errors()[0]
        raise ArtifactError(f"{where}: {'.'.join(map(str, first['loc']))}: {first['msg']}") from error
    except ValueError as error:
        raise ArtifactError(f"{where}: cannot be read ({error})") from error


def library_versions() -> dict[str, str]:
    """Versions of Python and of the packages that decide an artifact's numbers."""
    names = ("foreword", "torch", "transformers", "accelerate", "safetensors")
    return {"python": platform.python_version(), **{name: version(name) for name in names}}
