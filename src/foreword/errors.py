"""Every error Foreword raises on purpose, as one tree.

    ForewordError
    ├── RecipeError        a recipe or an option is wrong              recipe.invalid
    ├── DataError          a data file, line or field is wrong         data.invalid
    │   └── TooLongError   a text does not fit and may not be cut      input.too-long
    ├── TaskError          a task does not fit its data or backbone    task.does-not-fit
    ├── BackboneError      a backbone cannot be loaded or used         backbone.unusable
    ├── MethodError        a prompt does not fit the backbone          method.does-not-fit
    ├── ArtifactError      an artifact is damaged or does not fit      artifact.invalid
    ├── RegistryError      a registry, or a change to it, is wrong     registry.invalid
    │   └── UnknownReference   names no version of a task              registry.unknown
    ├── EngineError        one input of a batch was not answered       engine.failed
    ├── CheckpointError    a run cannot be resumed                     checkpoint.invalid
    └── OutputError        an output path cannot be written            output.refused

Each class has a stable ``code``. The command line prints the message on one line and
exits with status 2; nothing here is caught and ignored inside the library.
"""

from __future__ import annotations

from pathlib import Path


class ForewordError(Exception):
    """Base of all errors that are about what the user gave us, not about a bug of ours."""

    code = "foreword.error"


class RecipeError(ForewordError):
    """One or several mistakes in a recipe, reported together.

    Args:
        mistakes: one sentence each, with the dotted path of the field it is about.
        source: the recipe file, where there is one.
    """

    code = "recipe.invalid"

    def __init__(self, mistakes: str | list[str], source: str | Path | None = None) -> None:
        self.mistakes = [mistakes] if isinstance(mistakes, str) else list(mistakes)
        where = f"{source}: " if source is not None else ""
        if len(self.mistakes) == 1:
            text = where + self.mistakes[0]
        else:
            listed = "\n".join(f"  - {mistake}" for mistake in self.mistakes)
            text = f"{where}{len(self.mistakes)} mistakes:\n{listed}"
        super().__init__(text)


class DataError(ForewordError):
    """Something in a data file is not what it should be.

    Args:
        message: what was expected and what came.
        file: path of the file, as the user named it.
        line: 1-based line (or record number for formats without lines).
        field: name of the column or key.
        hint: what to do about it.
    """

    code = "data.invalid"

    def __init__(
        self,
        message: str,
        *,
        file: str | Path | None = None,
        line: int | None = None,
        field: str | None = None,
        hint: str | None = None,
    ) -> None:
        self.file, self.line, self.field = file, line, field
        place = "" if file is None else str(file) if line is None else f"{file}:{line}"
        parts = [part for part in (place, field and f"field '{field}'") if part]
        text = ": ".join([*parts, message])
        super().__init__(f"{text}. {hint}" if hint else text)


class TooLongError(DataError):
    """A text has more tokens than can be read, and whoever sent it does not want it cut."""

    code = "input.too-long"


class TaskError(ForewordError):
    """A task's settings do not fit its labels, its texts or the backbone."""

    code = "task.does-not-fit"


class BackboneError(ForewordError):
    """A backbone is unknown, unsupported, damaged, or cannot be reached."""

    code = "backbone.unusable"


class MethodError(ForewordError):
    """A method's prompt does not fit the backbone it is built for."""

    code = "method.does-not-fit"


class ArtifactError(ForewordError):
    """An artifact is incomplete, altered, not finite, or belongs to another backbone."""

    code = "artifact.invalid"


class RegistryError(ForewordError):
    """A registry is damaged, or what is asked of it cannot be done."""

    code = "registry.invalid"


class UnknownReference(RegistryError):  # noqa: N818  what was asked for may well be right, and is not here
    """A reference names no version; the words are the same for what is absent and what may not be known of.

    Args:
        reference: as it was given.
    """

    code = "registry.unknown"

    def __init__(self, reference: str) -> None:
        self.reference = reference
        super().__init__(f"{reference!r:.80}: no such task or version")


class EngineError(ForewordError):
    """One input of a batch could not be answered, for a reason that is not its form."""

    code = "engine.failed"


class CheckpointError(ForewordError):
    """A checkpoint is missing, damaged, or belongs to a different recipe."""

    code = "checkpoint.invalid"


class OutputError(ForewordError):
    """An output folder or file exists and is not ours to replace, or cannot be written."""

    code = "output.refused"
