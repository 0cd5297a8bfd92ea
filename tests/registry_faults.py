"""What can happen to a registry: processes killed, power lost, files damaged. Seeded; for tests and the benchmark."""

from __future__ import annotations

import os
import random
import select
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from unittest.mock import patch

from foreword.errors import ForewordError
from foreword.registry import Registry

_CHANGES = {"os.rename", "os.mkdir", "os.chmod", "os.remove", "os.utime", "os.truncate"}


def killed_at(step: int, action: Callable[[], object]) -> bool:
    """Run in a child that is killed before its ``step``-th change of the disk (or after it, if that is an fsync).

    Steps are files opened to write, renames, new folders, deletions, and both sides of every fsync.

    Returns:
        Whether it got so far; False if it was done before.
    """
    count = 0

    def passed() -> None:
        nonlocal count
        count += 1
        if count == step:
            os.kill(os.getpid(), signal.SIGKILL)

    def hook(event: str, arguments: tuple) -> None:
        if event in _CHANGES or (event == "open" and isinstance(arguments[2], int) and arguments[2] & os.O_ACCMODE):
            passed()

    def synced(handle: int, real: Callable[[int], None] = os.fsync) -> None:
        passed()
        real(handle)
        passed()

    def child() -> None:
        os.fsync = synced
        sys.addaudithook(hook)
        action()

    return _ended(_forked(child)) == -signal.SIGKILL


def killed_after(seconds: float, action: Callable[[], object]) -> bool:
    """Run in a child that is killed after a while; whether it was still running."""
    child = _forked(action)
    time.sleep(seconds)
    os.kill(child, signal.SIGKILL)
    return _ended(child) == -signal.SIGKILL


def run_all(writers: list[Callable[[], object]], readers: list[Callable[[], object]]) -> list[int]:
    """Run each in a child of its own, all at once: readers again and again until the writers are done, and once more.

    Returns:
        The exit codes.
    """
    end, stop = os.pipe()  # whose reading end tells children that the parent closed the other one

    def again(read: Callable[[], object]) -> None:
        os.close(stop)
        done = False
        while not done:
            done = bool(select.select([end], [], [], 0)[0])
            read()

    watching = [_forked(partial(again, read)) for read in readers]
    children = [_forked(partial(_without, stop, write)) for write in writers]
    codes = [_ended(child) for child in children]
    os.close(stop)
    codes += [_ended(child) for child in watching]
    os.close(end)
    return codes


def _without(handle: int, action: Callable[[], object]) -> None:
    os.close(handle)
    action()


def _forked(action: Callable[[], object]) -> int:
    child = os.fork()
    if child:
        return child
    code = 1
    try:
        action()
        code = 0
    except BaseException as error:
        sys.__stderr__.write(f"child: {type(error).__name__}: {error}\n")
    finally:
        os._exit(code)


def _ended(child: int) -> int:
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def contents(root: Path) -> dict[str, str]:
    """Reference -> digest of all versions, each opened and checked, and what aliases stand for."""
    registry = Registry(root)
    assert registry.verify() == []
    found = {}
    for name in registry.names():
        for version in registry.versions(name):
            registry.open(version)
            found[version.reference] = version.digest
        found |= {f"{name}@{alias}": f"{name}:{number}" for alias, number in registry.aliases(name).items()}
    return found


class Disk:
    """What of a folder is on the disk for certain, as its files and folders are synced.

    A file has the content of its last fsync, and none before the first. A folder has the entries of its last fsync.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self._files: dict[int, bytes] = {}
        self._folders: dict[Path, dict[str, tuple[int, bool]]] = {}
        for folder, _, names in os.walk(root):
            self._sync_folder(Path(folder))
            for name in names:
                path = Path(folder, name)
                self._files[path.stat().st_ino] = path.read_bytes()

    @contextmanager
    def watched(self, before: Callable[[], None]) -> Iterator[None]:
        """See every fsync; ``before`` is called before each change of the disk."""
        real = {name: getattr(os, name) for name in ("fsync", "rename", "replace", "mkdir", "unlink")}
        within = [False]

        def pause() -> None:
            if not within[0]:
                within[0] = True  # what `before` writes itself does not count
                before()
                within[0] = False

        def fsync(handle: int) -> None:
            pause()
            real["fsync"](handle)
            path = Path(f"/proc/self/fd/{handle}").readlink()
            if path.is_dir():
                self._sync_folder(path)
            else:
                self._files[path.stat().st_ino] = path.read_bytes()

        def watch(name: str) -> Callable:
            def changed(*arguments, **options):
                pause()
                return real[name](*arguments, **options)

            return changed

        patches = [patch.object(os, "fsync", fsync), *(patch.object(os, n, watch(n)) for n in real if n != "fsync")]
        for one in patches:
            one.start()
        try:
            yield
        finally:
            for one in patches:
                one.stop()

    def certain(self, to: Path) -> None:
        """Write what a loss of power now must leave: nothing that was not synced."""
        self._write(self.root, to)

    def likely(self, to: Path) -> None:
        """Write what it may leave as well: every name is there, but files that were not synced are empty."""
        for folder, _, names in os.walk(self.root):
            place = to / Path(folder).relative_to(self.root)
            place.mkdir(parents=True)
            for name in names:
                (place / name).write_bytes(self._files.get(Path(folder, name).stat().st_ino, b""))

    def _sync_folder(self, path: Path) -> None:
        with os.scandir(path) as found:
            self._folders[path] = {e.name: (e.inode(), e.is_dir()) for e in found}

    def _write(self, folder: Path, to: Path) -> None:
        to.mkdir(parents=True)
        for name, (inode, inner) in self._folders.get(folder, {}).items():
            if inner:
                self._write(folder / name, to / name)
            else:
                (to / name).write_bytes(self._files.get(inode, b""))


def damaged(root: Path, chance: random.Random) -> tuple[Path, Callable[[], None]]:
    """Flip a bit of some file of a registry, or cut it off; which, and what mends it."""
    path = chance.choice(sorted(p for p in root.rglob("*") if p.is_file() and p.name != "lock"))
    content = path.read_bytes()
    where = chance.choice([0, 7, 8, 9, len(content) - 1, len(content) // 4096 * 4096, chance.randrange(len(content))])
    where = min(where, len(content) - 1)
    if chance.random() < 0.5:
        other = content[:where]
    else:
        other = content[:where] + bytes([content[where] ^ (1 << chance.randrange(8))]) + content[where + 1 :]
    mode = path.stat().st_mode

    def put(what: bytes) -> None:
        path.chmod(0o644)
        path.write_bytes(what)
        path.chmod(mode)

    put(other)
    return path, lambda: put(content)


def refusals(root: Path, references: list[str]) -> list[ForewordError]:
    """Errors of everyone who asks for these versions."""
    found = []
    for reference in references:
        try:
            registry = Registry(root)
            registry.open(registry.resolve(reference))
        except ForewordError as error:
            found.append(error)
    return found
