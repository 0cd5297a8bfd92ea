"""What stands inside the layers: modules put beside those of a backbone, at work for one model only.

A *method* may change what modules of the backbone compute (LoRA, IA3, adapters). It puts its own
modules into an `Attachment`, each with a place. The backbone keeps its structure, its names and its
numbers: only the ``forward`` of the places learns to ask whether an attachment is `active`. Which one
is belongs to the thread of control, not to the backbone, so models that share a backbone, and threads
that share a model, never see one another's.
"""

from __future__ import annotations

import copy
import functools
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from contextvars import ContextVar, Token
from typing import Any, TypeVar
from weakref import WeakKeyDictionary

from torch import nn

from foreword.errors import MethodError

Through = Callable[..., Any]
"""Called with the bare ``forward`` of a place and that call's arguments; gives what the place gives instead."""

_Module = TypeVar("_Module", bound=nn.Module)
_ACTIVE: ContextVar[Attachment | None] = ContextVar("foreword_attachment", default=None)


class Attachment(nn.ModuleDict):
    """The trained modules of one model by the name of their place, dots written as dashes."""

    def __init__(self) -> None:
        super().__init__()
        self._places: list[nn.Module] = []

    def put(self, name: str, place: nn.Module, module: nn.Module, through: Through) -> None:
        """Let a module of the backbone be computed another way while this attachment is active.

        Args:
            name: of the place in its backbone.
            place: the backbone's module.
            module: what is trained there.
            through: how ``place`` is computed.

        Raises:
            MethodError: something of this attachment is at that place already.
        """
        key = name.replace(".", "-")
        if key in self:
            raise MethodError(f"two parts of one method change the same module, '{name}'. Give them other places")
        self[key] = module
        self._places.append(place)
        forward = place.__dict__.get("forward")
        if not isinstance(forward, _Forward):
            place.forward = forward = _Forward(place.forward)
        forward.detours[self] = through

    @property
    def places(self) -> Sequence[nn.Module]:
        """The backbone's modules that it changes."""
        return tuple(self._places)

    def detach(self) -> None:
        """Leave the backbone; its modules are then as if nothing had ever been there."""
        for place in self._places:
            forward = place.__dict__.get("forward")
            if isinstance(forward, _Forward):
                forward.detours.pop(self, None)
                if not forward.detours:
                    del place.forward
        self._places.clear()


class active(AbstractContextManager[None]):  # noqa: N801  read as a word: `with active(attachment):`
    """While it lasts, an attachment is at work; with None, none is. Can be entered again.

    Args:
        attachment: of the model that computes.
    """

    def __init__(self, attachment: Attachment | None) -> None:
        self._attachment = attachment
        self._tokens: list[Token[Attachment | None]] = []

    def __enter__(self) -> None:
        self._tokens.append(_ACTIVE.set(self._attachment))

    def __exit__(self, *exception: object) -> None:
        _ACTIVE.reset(self._tokens.pop())


def active_again() -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
    """For `torch.utils.checkpoint`: the backward pass recomputes with what is active now, whatever is then."""
    return nullcontext(), active(_ACTIVE.get())


def unrouted(module: _Module) -> _Module:
    """``module`` as it is without attachments: another shell around the same weights."""
    shell = copy.copy(module)
    if isinstance(shell.__dict__.get("forward"), _Forward):
        del shell.forward
    return shell


def detoured(place: nn.Module, bare: Callable[..., Any]) -> Callable[..., Any]:
    """``bare``, with the detours of ``place``: for backbones that compute a layer by its parts and never call it.

    Args:
        place: a layer.
        bare: what is called instead of it.
    """

    def compute(*args: Any, **kwargs: Any) -> Any:
        forward = place.__dict__.get("forward")
        return forward.run(bare, *args, **kwargs) if isinstance(forward, _Forward) else bare(*args, **kwargs)

    return compute


class _Forward:
    """Stands in for the ``forward`` of a place, bare unless an attachment of its own is active.

    Args:
        bare: what it stands in for.
    """

    def __init__(self, bare: Callable[..., Any]) -> None:
        functools.update_wrapper(self, bare)
        self.bare = bare
        self.detours: WeakKeyDictionary[Attachment, Through] = WeakKeyDictionary()

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self.run(self.bare, *args, **kwargs)

    def run(self, bare: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """``bare``, or what the active attachment makes of it."""
        attachment = _ACTIVE.get()
        through = None if attachment is None else self.detours.get(attachment)
        return bare(*args, **kwargs) if through is None else through(bare, *args, **kwargs)
