"""Artifacts on disk: integrity, names, links, atomic writes."""

from __future__ import annotations

import json
import os
import stat
from pathlib import Path

import pytest

import fp4rt
from fp4rt import Artifact, ArtifactError

DATA = Path(__file__).parent.parent / "gpu" / "data" / "scale_shift.json"


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    return Artifact.load(DATA).save(tmp_path / "out")


def test_save_and_load(saved: Path) -> None:
    again = Artifact.load(saved)
    original = Artifact.load(DATA)
    assert again.manifest == original.manifest
    assert again.files == original.files
    assert sorted(p.name for p in saved.parent.iterdir()) == [
        "scale_shift.cubin", "scale_shift.json", "scale_shift.ptx"
    ]  # fmt: skip


def test_saving_again_replaces_and_leaves_nothing_behind(saved: Path) -> None:
    before = {p.name: p.read_bytes() for p in saved.parent.iterdir()}
    Artifact.load(saved).save(saved.parent)
    assert {p.name: p.read_bytes() for p in saved.parent.iterdir()} == before


def test_files_get_the_usual_mode(saved: Path) -> None:
    umask = os.umask(0)
    os.umask(umask)
    assert stat.S_IMODE(saved.stat().st_mode) == 0o666 & ~umask


def test_a_changed_file_is_refused(saved: Path) -> None:
    cubin = saved.with_suffix(".cubin")
    cubin.write_bytes(cubin.read_bytes()[:-1] + b"x")
    with pytest.raises(ArtifactError, match=r"FP6004: scale_shift\.cubin has sha256"):
        Artifact.load(saved)


def test_a_missing_file_is_named(saved: Path) -> None:
    saved.with_suffix(".ptx").unlink()
    with pytest.raises(ArtifactError, match=r"FP6001: cannot read .*scale_shift\.ptx: No such file"):
        Artifact.load(saved)


def test_a_missing_manifest_is_named(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="FP6001"):
        fp4rt.load(tmp_path / "none.json")


def test_a_folder_is_not_an_artifact(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="FP6001"):
        Artifact.load(tmp_path)


@pytest.mark.parametrize("which", ["json", "cubin"])
def test_links_are_refused(saved: Path, which: str) -> None:
    path = saved.with_suffix(f".{which}")
    real = path.rename(path.with_name("elsewhere"))
    path.symlink_to(real)
    with pytest.raises(ArtifactError, match=r"FP6005: .* is a symbolic link"):
        Artifact.load(saved)


@pytest.mark.parametrize("name", ["../evil.cubin", "/etc/passwd", "a/b.ptx", ".hidden", "", "a\x00b", "con\\x"])
def test_only_base_names(saved: Path, name: str) -> None:
    data = json.loads(saved.read_text())
    data["files"][name] = "0" * 64
    saved.write_text(json.dumps(data))
    with pytest.raises(ArtifactError, match="FP6005"):
        Artifact.load(saved)


def test_a_pipe_is_refused_without_waiting(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "x.json")
    with pytest.raises(ArtifactError, match=r"FP6001.*not a regular file"):
        Artifact.load(tmp_path / "x.json")


def test_a_launch_needs_its_files() -> None:
    artifact = Artifact.load(DATA)
    with pytest.raises(ArtifactError, match="uses scale_shift, but neither"):
        Artifact.build(artifact.manifest, {})


def test_writing_where_it_cannot(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ArtifactError, match="FP6008"):
        Artifact.load(DATA).save(tmp_path / "file" / "out")


def test_a_file_that_was_not_kept(saved: Path) -> None:
    with pytest.raises(ArtifactError, match=r"has no other\.ptx; it has scale_shift"):
        Artifact.load(saved).ptx("other")


def test_extras_are_written_but_not_listed(tmp_path: Path) -> None:
    original = Artifact.load(DATA)
    path = Artifact.build(original.manifest, original.files, {"scale_shift.py": b"text"}).save(tmp_path)
    assert (tmp_path / "scale_shift.py").read_bytes() == b"text"
    assert "scale_shift.py" not in Artifact.load(path).files
