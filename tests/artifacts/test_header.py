"""A header that lies is refused before anything it describes takes memory."""

from __future__ import annotations

import io
import json
import random
import shutil
import tracemalloc
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save

from foreword.artifacts.files import MOST_BYTES, SERVED, copy_file, side_by_side
from foreword.artifacts.format import load_artifact
from foreword.artifacts.header import MOST_HEADER_BYTES, MOST_TENSORS, check_header
from foreword.errors import ArtifactError
from tiny_artifacts import change_manifest, tiny_artifact

WHERE = Path("x.safetensors")
F32 = {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}


def file_of(header: Any, data: bytes = b"", length: int | None = None) -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return (len(text) if length is None else length).to_bytes(8, "little") + text + data


def refused(content: bytes, *says: str) -> None:
    tracemalloc.start()
    with pytest.raises(ArtifactError) as caught:
        check_header(io.BytesIO(content), len(content), WHERE)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 10 << 20
    assert str(caught.value).startswith(f"{WHERE}: ")
    assert "\n" not in str(caught.value)
    for text in says:
        assert text in str(caught.value)


DTYPES = [
    torch.float64, torch.float32, torch.bfloat16, torch.float16, torch.int64, torch.int32, torch.int16, torch.int8,
    torch.uint8, torch.bool, torch.complex64, torch.float8_e4m3fn, torch.float8_e5m2,
]  # fmt: skip


@pytest.mark.parametrize("dtype", DTYPES)
def test_what_the_library_writes_is_taken(dtype):
    shapes = [(), (3,), (2, 0), (2, 3, 4)]
    content = save({str(n): torch.zeros(shape, dtype=dtype) for n, shape in enumerate(shapes)}, {"made": "here"})
    check_header(io.BytesIO(content), len(content), WHERE)


@pytest.mark.parametrize("length", [2**63, 2**64 - 1, 2**31, 9, 3])
def test_lengths(length):
    refused(file_of({}, b"", length))


def test_a_long_header_is_not_read():
    refused(file_of(b" " * (MOST_HEADER_BYTES + 1)), f"more than {MOST_HEADER_BYTES}")


def test_a_million_tensors():
    one = b'"%07d":{"dtype":"F32","shape":[0],"data_offsets":[0,0]},'
    text = b"{" + b"".join(one % n for n in range(1_000_000))[:-1] + b"}"
    refused(file_of(text), f"more than {MOST_HEADER_BYTES}")


def test_too_many_tensors():
    empty = {"dtype": "F32", "shape": [0], "data_offsets": [0, 0]}
    refused(file_of({str(n): empty for n in range(MOST_TENSORS + 1)}), f"holds {MOST_TENSORS + 1} tensors")


@pytest.mark.parametrize(
    ("header", "data", "says"),
    [
        (b'{"a":' + json.dumps(F32).encode() + b',"a":' + json.dumps(F32).encode() + b"}", 8, "twice"),
        ({"a": F32, "b": F32}, 8, "overlap"),
        ({"a": F32, "b": F32 | {"data_offsets": [4, 12]}}, 12, "overlap"),
        ({"a": F32, "b": F32 | {"data_offsets": [12, 20]}}, 20, "gaps"),
        ({"a": F32 | {"data_offsets": [4, 12]}}, 12, "gaps"),
        ({"a": F32}, 7, "do not end where the file does"),
        ({"a": F32}, 9, "do not end where the file does"),
        ({}, 1, "do not end where the file does"),
        ({"a": F32 | {"data_offsets": [8, 0]}}, 8, "tensor 'a'"),
        ({"a": F32 | {"data_offsets": [-8, 0]}}, 8, "tensor 'a'"),
        ({"a": F32 | {"data_offsets": [0, 8, 8]}}, 8, "tensor 'a'"),
        ({"a": F32 | {"data_offsets": [False, 8]}}, 8, "tensor 'a'"),
        ({"a": F32 | {"data_offsets": [0.0, 8.0]}}, 8, "tensor 'a'"),
        ({"a": F32 | {"shape": [3]}}, 8, "tensor 'a'"),
        ({"a": F32 | {"shape": [-2]}}, 8, "tensor 'a'"),
        ({"a": F32 | {"shape": [-1, -2]}}, 8, "tensor 'a'"),
        ({"a": F32 | {"shape": [2**62, 4]}}, 8, "tensor 'a'"),
        ({"a": F32 | {"shape": [1] * 9 + [2]}}, 8, "tensor 'a'"),
        ({"a": F32 | {"shape": "2"}}, 8, "tensor 'a'"),
        ({"a": F32 | {"dtype": "F4"}}, 8, "tensor 'a'"),
        ({"a": F32 | {"dtype": "object"}}, 8, "tensor 'a'"),
        ({"a": F32 | {"dtype": ["F32"]}}, 8, "tensor 'a'"),
        ({"a": F32 | {"more": 1}}, 8, "tensor 'a'"),
        ({"a": {"dtype": "F32", "shape": [2]}}, 8, "tensor 'a'"),
        ({"a": 5}, 8, "tensor 'a'"),
        ([], 0, "no table"),
        (b"null", 0, "no table"),
        (b"", 0, "no safetensors file"),
        (b"{", 0, "no safetensors file"),
        (b"\xff\xfe", 0, "no safetensors file"),
        (b"[" * 100_000, 0, "too deeply"),
        (b'{"a":' + b"9" * 5000 + b"}", 0, "no safetensors file"),
    ],
)
def test_headers(header, data, says):
    refused(file_of(header, bytes(data)), says)


def test_every_file_that_is_taken_is_one_that_the_library_takes():
    """And ends where its tensors do: bits flipped in the header of a sound file."""
    from safetensors.torch import load

    chance = random.Random(3)
    sound = save({"a": torch.ones(2, 3), "b": torch.ones(4, dtype=torch.int64)})
    length = int.from_bytes(sound[:8], "little")
    taken = 0
    for _ in range(2_000):
        content = bytearray(sound)
        for _ in range(chance.randrange(1, 3)):
            content[chance.randrange(8 + length)] ^= 1 << chance.randrange(8)
        try:
            check_header(io.BytesIO(content), len(content), WHERE)
        except ArtifactError:
            continue
        load(bytes(content))
        taken += 1
    assert 0 < taken < 1_000  # such as another name


class TestSizes:
    def test_a_large_file_is_refused_unread(self, tmp_path):
        """Sparse, so that it takes no room."""
        artifact = shutil.copytree(tiny_artifact(), tmp_path / "a")
        most = MOST_BYTES[SERVED]
        with (artifact / SERVED).open("r+b") as file:
            file.truncate(most + 1)
        change_manifest(artifact, lambda raw: raw["files"][SERVED].update(bytes=most + 1))
        with pytest.raises(ArtifactError, match=f"has {most + 1} bytes, and such a file of an artifact at most {most}"):
            load_artifact(artifact)

    def test_a_large_manifest_is_refused_unread(self, tmp_path):
        artifact = shutil.copytree(tiny_artifact(), tmp_path / "a")
        with (artifact / "artifact.json").open("r+b") as file:
            file.truncate(1 << 40)
        with pytest.raises(ArtifactError, match=r"artifact\.json: has more than"):
            load_artifact(artifact)

    @pytest.mark.parametrize("digest", ["../" * 20 + "etc/passwd", "A" * 64, "0" * 63, "0" * 64 + "\n", ""])
    def test_a_hash_is_64_digits(self, tmp_path, digest):
        artifact = shutil.copytree(tiny_artifact(), tmp_path / "a")
        change_manifest(artifact, lambda raw: raw["files"][SERVED].update(sha256=digest))
        with pytest.raises(ArtifactError, match=r"files\.prompt\.safetensors\.sha256"):
            load_artifact(artifact)

    def test_a_file_changed_while_it_is_copied_is_seen(self, tmp_path):
        artifact = shutil.copytree(tiny_artifact(), tmp_path / "a")
        found = load_artifact(artifact)
        content = bytearray((artifact / SERVED).read_bytes())
        content[-1] ^= 1
        (artifact / SERVED).write_bytes(content)
        with pytest.raises(ArtifactError, match="it was altered"):
            copy_file(found.files, side_by_side(tmp_path, found.manifest), SERVED)
        assert not (tmp_path / SERVED).exists()
