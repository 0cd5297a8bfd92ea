"""What users write to name a version: ``name``, ``name@alias``, ``name:3``, ``name@sha256:<hex>``."""

from __future__ import annotations

import re
from typing import NamedTuple

from foreword.errors import RegistryError, UnknownReference

LATEST = "latest"
"""The alias that a bare name stands for; publishing moves it."""

_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")
_ALIAS = re.compile(r"[a-z][a-z0-9._-]{0,63}")
_REFERENCE = re.compile(
    rf"(?P<name>{_NAME.pattern})"
    rf"(?: :(?P<number>[1-9][0-9]{{0,8}}) | @sha256:(?P<digest>[0-9a-f]{{12,64}}) | @(?P<alias>{_ALIAS.pattern}) )?",
    re.VERBOSE,
)


class Reference(NamedTuple):
    """A reference taken apart; exactly one of the last three is given.

    Attributes:
        name: of the task.
        number: of the version.
        digest: how the digest of the version begins.
        alias: what the version is called, too.
    """

    name: str
    number: int | None
    digest: str | None
    alias: str | None


def parse_reference(text: str) -> Reference:
    """Take a reference apart.

    Raises:
        UnknownReference: it is none, so there is nothing by that name.
    """
    found = _REFERENCE.fullmatch(text)
    if found is None:
        raise UnknownReference(text)
    name, number, digest, alias = found["name"], found["number"], found["digest"], found["alias"]
    if number is None and digest is None and alias is None:
        alias = LATEST
    return Reference(name, None if number is None else int(number), digest, alias)


def is_name(text: str) -> bool:
    """Whether a task may have this name."""
    return _NAME.fullmatch(text) is not None


def is_alias(text: str) -> bool:
    """Whether a version may be called so."""
    return _ALIAS.fullmatch(text) is not None


def check_name(text: str) -> str:
    """A name that a task may have.

    Raises:
        RegistryError: it may not.
    """
    if not is_name(text):
        raise RegistryError(
            f"{text!r:.80} is no name for a task: up to 64 small letters, digits, '.', '_' and '-', beginning with a "
            "letter or digit"
        )
    return text


def check_alias(text: str) -> str:
    """A word that a version may be called by.

    Raises:
        RegistryError: it may not.
    """
    if not is_alias(text):
        raise RegistryError(
            f"{text!r:.80} is no alias: up to 64 small letters, digits, '.', '_' and '-', beginning with a letter"
        )
    return text
