"""Data sets of the `datasets` library: a folder written by it, or a name on the hub."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from foreword.data.readers.base import ReadOptions
from foreword.data.records import Record
from foreword.errors import DataError

HUB_PREFIX = "hub:"
MARKERS = ("dataset_info.json", "dataset_dict.json", "state.json")
"""A folder that holds one of these was written by the library."""

_NO_LABEL = -1
"""What published data sets hold where a label is withheld."""


def read_datasets(file: str, options: ReadOptions) -> Iterator[Record]:
    """Stream the rows of one split; ``line`` is the 1-based number of the row.

    Integers of a `ClassLabel`, also inside lists, become the names of their labels; a withheld
    label (-1) is left out. Answers given as an object of lists become a list of objects.

    Args:
        file: a folder for `load_from_disk`, or ``hub:owner/name`` or ``hub:owner/name/config``.
        options: ``split`` chooses the split; a folder with a single data set has no choice.

    Raises:
        DataError: the library is not installed, the data set or its split is not there or cannot
            be loaded, or a label has no name.
    """
    library = _library(file)
    if file.startswith(HUB_PREFIX):
        rows = _from_hub(library, file, options.split)
    else:
        rows = _from_folder(library, file, options.split)
    for number, row in enumerate(rows, start=1):
        record = Record(row, file, number)
        yield Record(dict(_fields(record, rows.features, library)), file, number)


def _library(file: str) -> Any:
    try:
        return importlib.import_module("datasets")
    except ImportError as error:
        hint = "Install it with: pip install foreword[datasets]"
        raise DataError("needs the library `datasets`", file=file, hint=hint) from error


def _from_hub(library: Any, file: str, split: str) -> Any:
    parts = file.removeprefix(HUB_PREFIX).split("/")
    if len(parts) > 3 or not all(parts):
        raise DataError("expected hub:owner/name or hub:owner/name/config", file=file)
    name, config = "/".join(parts[:2]), parts[2] if len(parts) > 2 else None
    try:
        return library.load_dataset(name, config, split=split)
    except (OSError, ValueError, RuntimeError) as error:
        raise DataError(f"cannot load split '{split}' ({_first_line(error)})", file=file) from error


def _from_folder(library: Any, file: str, split: str) -> Any:
    if not Path(file).is_dir():
        raise DataError("no such folder", file=file)
    try:
        found = library.load_from_disk(file)
    except (OSError, ValueError, LookupError, TypeError) as error:
        raise DataError(f"cannot be loaded as a data set ({_first_line(error)})", file=file) from error
    if not isinstance(found, library.DatasetDict):
        return found
    if split not in found:
        have = ", ".join(found)
        raise DataError(f"no split '{split}' (there are: {have})", file=file, hint="Set `[data] split`")
    return found[split]


def _first_line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0] or type(error).__name__


def _fields(record: Record, features: Any, library: Any) -> Iterator[tuple[str, Any]]:
    for name, value in record.fields.items():
        feature = features[name]
        try:
            named = _named(value, feature, library)
        except (IndexError, ValueError) as error:
            raise record.error(f"has a label without a name ({value!r:.60})", field=name) from error
        if named is not None or not isinstance(feature, library.ClassLabel):
            yield name, _answers(named)


def _named(value: Any, feature: Any, library: Any) -> Any:
    """The value with every class number in it replaced by the name of its class."""
    if isinstance(feature, library.ClassLabel):
        return None if value is None or value == _NO_LABEL else feature.int2str(value)
    # Some releases of the library write a list feature as a plain list with one item.
    inner = feature[0] if isinstance(feature, list) else getattr(feature, "feature", None)
    if inner is not None and isinstance(value, list):
        return [_named(item, inner, library) for item in value]
    if isinstance(feature, dict) and isinstance(value, dict):
        return {key: _named(item, feature[key], library) for key, item in value.items()}
    return value


def _answers(value: Any) -> Any:
    """The library turns a list of answers inside out; turn it back."""
    if not isinstance(value, dict) or set(value) != {"text", "answer_start"}:
        return value
    if not all(isinstance(items, list) for items in value.values()):
        return value
    pairs = zip(value["text"], value["answer_start"], strict=True)
    return [{"text": text, "answer_start": start} for text, start in pairs]
