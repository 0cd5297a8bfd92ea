"""Stores lose what they may, and never give anything else than what was put there."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest
import torch

from foreword.caching import DiskStore, MemoryStore, in_words, open_store, size_in_bytes

SHAPE = (5, 8)
ONE = 5 * 8 * 4
"""Bytes of a tensor of that shape; a file has a checksum beside it."""


def key(number: int) -> bytes:
    return bytes([number]) * 16


def tensor(number: int, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    return torch.randn(SHAPE, generator=torch.Generator().manual_seed(number)).to(dtype)


@pytest.fixture(params=["memory", "disk"])
def make(request: pytest.FixtureRequest, tmp_path: Path):
    """Makes a store with room for so many tensors."""
    if request.param == "memory":
        return lambda count: MemoryStore(count * ONE)
    return lambda count: DiskStore(tmp_path, count * (ONE + 16))


def kept(store, count: int, dtype: torch.dtype = torch.float32) -> list[int]:
    """Which of the tensors 0, 1, ... are there; they must be what was put."""
    found = []
    for number in range(count):
        states = store.get(key(number), SHAPE, dtype)
        if states is not None:
            assert torch.equal(states, tensor(number, dtype))
            found.append(number)
    return found


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_what_was_put_is_there(make, dtype):
    store = make(4)
    for number in range(3):
        store.put(key(number), tensor(number, dtype))
    assert kept(store, 6, dtype) == [0, 1, 2]
    assert store.get(key(0), (*SHAPE, 1), torch.float64) is None or isinstance(store, MemoryStore)


def test_a_run_keeps_what_it_has(make):
    """Of texts that come again in every epoch, as many stay as there is room for, not the last ones."""
    store = make(3)
    for _ in range(2):
        for number in range(5):
            if store.get(key(number), SHAPE, torch.float32) is None:
                store.put(key(number), tensor(number))
    assert kept(store, 5) == [0, 1, 2]


def test_the_next_run_takes_the_place_of_what_was_not_used_longest(tmp_path):
    memory = MemoryStore(3 * ONE)
    for number in range(3):
        memory.put(key(number), tensor(number))
    memory.begin()
    assert memory.get(key(0), SHAPE, torch.float32) is not None
    memory.put(key(3), tensor(3))
    assert kept(memory, 4) == [0, 2, 3]
    assert memory.size == 3 * ONE


def test_the_next_run_takes_the_place_on_disk(tmp_path):
    first = DiskStore(tmp_path, 10 * (ONE + 16))
    for number in range(10):
        first.put(key(number), tensor(number))
        path = first._path(key(number))
        os.utime(path, (time.time() - 1000 + number,) * 2)
    second = DiskStore(tmp_path, 10 * (ONE + 16))
    assert second.get(key(0), SHAPE, torch.float32) is not None  # in use from here on
    second.put(key(10), tensor(10))
    found = kept(second, 11)
    assert {0, 10} <= set(found)
    assert 1 not in found  # the oldest of the others
    assert second.size <= 10 * (ONE + 16)


def test_what_is_larger_than_all_room_is_not_kept(make):
    store = make(0)
    store.put(key(0), tensor(0))
    assert kept(store, 1) == []
    assert store.size == 0


DAMAGES = {
    "removed": lambda path: path.unlink(),
    "empty": lambda path: path.write_bytes(b""),
    "cut": lambda path: path.write_bytes(path.read_bytes()[:-3]),
    "longer": lambda path: path.write_bytes(path.read_bytes() + b"\0"),
    "garbage": lambda path: path.write_bytes(os.urandom(path.stat().st_size)),
    "one bit": lambda path: path.write_bytes(path.read_bytes()[:-1] + bytes([path.read_bytes()[-1] ^ 1])),
    "another's": lambda path: path.write_bytes(DiskStore(path.parents[1], 1)._path(key(1)).read_bytes()),
    "a folder": lambda path: (path.unlink(), path.mkdir()),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_file_is_as_if_it_were_not_there(tmp_path, damage):
    store = DiskStore(tmp_path, 1 << 20)
    for number in (0, 1):
        store.put(key(number), tensor(number))
    DAMAGES[damage](store._path(key(0)))
    assert kept(store, 2) == [1]
    store.put(key(0), tensor(0))
    assert kept(store, 2) == ([1] if damage == "a folder" else [0, 1])


def test_the_folder_may_go_at_any_time(tmp_path):
    store = DiskStore(tmp_path / "trunk", 1 << 20)
    store.put(key(0), tensor(0))
    (tmp_path / "trunk").rename(tmp_path / "gone")
    assert kept(store, 1) == []
    store.put(key(0), tensor(0))
    assert kept(store, 1) == [0]


def test_a_place_that_cannot_be_written_to_keeps_nothing(tmp_path):
    (tmp_path / "file").write_text("not a folder")
    store = DiskStore(tmp_path / "file", 1 << 20)
    store.put(key(0), tensor(0))
    assert kept(store, 1) == []


def test_only_whole_files_appear_and_only_their_owner_reads_them(tmp_path):
    store = DiskStore(tmp_path / "trunk", 1 << 20)
    store.put(key(0), tensor(0))
    (file,) = (path for path in (tmp_path / "trunk").rglob("*") if path.is_file())
    assert file.suffix == ""
    assert all(path.stat().st_mode & 0o077 == 0 for path in (file, file.parent, file.parents[1]))


def test_one_store_per_process_and_one_folder_per_user(tmp_path, monkeypatch):
    assert open_store("memory", 5) is open_store("memory", 7)
    assert open_store("memory", 7).budget == 7
    monkeypatch.setenv("FOREWORD_CACHE", str(tmp_path))
    open_store("disk", 1 << 20).put(key(0), tensor(0))
    assert kept(open_store("disk", 1 << 20), 1) == [0]
    assert list(tmp_path.iterdir()) == [tmp_path / "trunk"]


@pytest.mark.parametrize(
    ("size", "words"), [(7, "7 bytes"), (1500, "1.5 kB"), (412_345_678, "412 MB"), (1_900_000_000, "1.9 GB")]
)
def test_sizes_in_words(size, words):
    assert in_words(size) == words
    if size > 10:
        assert size_in_bytes(words) == pytest.approx(size, rel=0.02)
