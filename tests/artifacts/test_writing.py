"""An artifact exists whole or not at all, and never in the place of something else."""

from __future__ import annotations

import resource
import shutil
from pathlib import Path

import pytest

import foreword as fw
from foreword.artifacts.folders import _swap, whole_folder
from foreword.artifacts.format import load_artifact, save_artifact
from foreword.errors import OutputError
from tiny_artifacts import answers_of, tiny_artifact


def contents(folder: Path) -> dict[str, str]:
    return {str(p.relative_to(folder)): p.read_text() for p in folder.rglob("*") if p.is_file()}


class TestWholeFolder:
    def test_is_not_there_before_it_is_whole(self, tmp_path):
        with whole_folder(tmp_path / "a" / "b") as folder:
            (folder / "x").write_text("1")
            assert not (tmp_path / "a" / "b").exists()
        assert contents(tmp_path) == {"a/b/x": "1"}
        assert (tmp_path / "a" / "b").stat().st_mode & 0o777 == 0o755

    @pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, SystemExit])
    @pytest.mark.parametrize("old", [{}, {"x": "old"}])
    def test_an_exception_leaves_what_was_there(self, tmp_path, error, old):
        place = tmp_path / "a"
        for name, text in old.items():
            place.mkdir()
            (place / name).write_text(text)

        def fill() -> None:
            with whole_folder(place) as folder:
                (folder / "x").write_text("new")
                raise error("in the middle")

        with pytest.raises(error, match="in the middle"):
            fill()
        assert contents(tmp_path) == {f"a/{name}": text for name, text in old.items()}
        assert [p.name for p in tmp_path.iterdir()] == ["a"][: len(old)]

    def test_replaces_a_folder(self, tmp_path):
        for text in ("old", "new"):
            with whole_folder(tmp_path / "a") as folder:
                (folder / text).write_text(text)
        assert contents(tmp_path) == {"a/new": "new"}
        assert [p.name for p in tmp_path.iterdir()] == ["a"]

    def test_the_old_folder_stays_when_the_new_one_cannot_take_its_place(self, tmp_path):
        (tmp_path / "a").mkdir()
        (tmp_path / "a" / "x").write_text("old")

        def fill() -> None:
            with whole_folder(tmp_path / "a") as folder:
                shutil.rmtree(folder)

        with pytest.raises(OutputError, match="cannot be written"):
            fill()
        assert contents(tmp_path) == {"a/x": "old"}

    def test_what_was_moved_aside_is_put_back(self, tmp_path):
        (tmp_path / "a").mkdir()
        (tmp_path / "a" / "x").write_text("old")
        with pytest.raises(FileNotFoundError):
            _swap(tmp_path / "gone", tmp_path / "a")
        assert contents(tmp_path) == {"a/x": "old"}
        assert [p.name for p in tmp_path.iterdir()] == ["a"]

    def test_a_place_below_a_file(self, tmp_path):
        (tmp_path / "file").write_text("x")
        with pytest.raises(OutputError, match="cannot be written"), whole_folder(tmp_path / "file" / "a"):
            pytest.fail("this is never reached")
        assert contents(tmp_path) == {"file": "x"}


class TestSaving:
    @pytest.fixture
    def predictor(self) -> fw.Predictor:
        return fw.load(tiny_artifact("classification", "ptuning-v2"))

    @pytest.fixture
    def other(self) -> fw.Predictor:
        return fw.load(tiny_artifact("ner", "head-only"))

    def save(self, predictor: fw.Predictor, path: Path, *, replace: bool = False) -> None:
        save_artifact(path, predictor.model, predictor.artifact.manifest, replace=replace)

    def test_nothing_is_replaced_unasked(self, predictor, other, tmp_path):
        self.save(predictor, tmp_path / "a")
        before = {p.name: p.read_bytes() for p in (tmp_path / "a").iterdir()}
        with pytest.raises(OutputError, match="exists already"):
            self.save(other, tmp_path / "a")
        assert {p.name: p.read_bytes() for p in (tmp_path / "a").iterdir()} == before

    def test_an_artifact_is_replaced_when_asked(self, predictor, other, tmp_path):
        self.save(predictor, tmp_path / "a")
        self.save(other, tmp_path / "a", replace=True)
        assert answers_of(fw.load(tmp_path / "a")) == answers_of(other)
        assert [p.name for p in tmp_path.iterdir()] == ["a"]

    @pytest.mark.parametrize("replace", [True, False])
    @pytest.mark.parametrize("folder", [True, False])
    def test_what_is_no_artifact_is_never_replaced(self, predictor, tmp_path, replace, folder):
        letter = tmp_path / "a" / "letter.txt" if folder else tmp_path / "a"
        letter.parent.mkdir(exist_ok=True)
        letter.write_text("dear")
        with pytest.raises(OutputError, match="exists already"):
            self.save(predictor, tmp_path / "a", replace=replace)
        assert letter.read_text() == "dear"

    def test_a_full_disk(self, predictor, other, tmp_path):
        """Stood in for by the limit on the size of files, which fails in the same call."""
        self.save(other, tmp_path / "a")
        limits = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (2000, limits[1]))
        try:
            with pytest.raises(OutputError, match="cannot be written"):
                self.save(predictor, tmp_path / "a", replace=True)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        assert [p.name for p in tmp_path.iterdir()] == ["a"]
        assert load_artifact(tmp_path / "a").task.name == "ner"
