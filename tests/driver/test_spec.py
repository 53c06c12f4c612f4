"""Specs by path and by text, and the files that cache keys must cover."""

from __future__ import annotations

from pathlib import Path

import pytest

from fp4cc.diagnostics import DiagnosticError
from fp4cc.driver.spec import Spec, read_spec, used_files


def test_one_line_that_ends_in_fp4_is_a_path_and_the_rest_is_text(tmp_path: Path) -> None:
    path = tmp_path / "a.fp4"
    path.write_text("# empty\n")
    assert read_spec(str(path)) == Spec(str(path), "# empty\n", tmp_path)
    assert read_spec(path).folder == tmp_path
    text = 'use "b.fp4"\n'
    assert read_spec(text) == Spec("<text>", text, None)
    with pytest.raises(FileNotFoundError):
        read_spec("missing.fp4")


def test_a_byte_order_mark_is_dropped(tmp_path: Path) -> None:
    (tmp_path / "a.fp4").write_bytes(b"\xef\xbb\xbf# x\n")
    assert read_spec(tmp_path / "a.fp4").text == "# x\n"


def test_bytes_that_are_not_text_are_a_diagnostic_with_the_place(tmp_path: Path) -> None:
    (tmp_path / "a.fp4").write_bytes(b"# x\n\xff")
    with pytest.raises(DiagnosticError) as error:
        read_spec(tmp_path / "a.fp4")
    (found,) = error.value.diagnostics
    assert found.code == "FP1008"
    assert str(found.span).endswith("a.fp4:2:1")


def test_used_files_are_found_through_one_another(tmp_path: Path) -> None:
    (tmp_path / "lib").mkdir()
    (tmp_path / "lib" / "b.fp4").write_text('use "c.fp4"\nuse "c.fp4"\n')
    (tmp_path / "lib" / "c.fp4").write_text('use "b.fp4"\n# a circle\n')
    main = tmp_path / "a.fp4"
    main.write_text('use "lib/b.fp4"\n')
    found = used_files(read_spec(main))
    assert found is not None
    assert set(found) == {"lib/b.fp4", "lib/c.fp4"}


def test_a_used_file_that_cannot_be_read_leaves_the_key_open(tmp_path: Path) -> None:
    main = tmp_path / "a.fp4"
    main.write_text('use "missing.fp4"\n')
    assert used_files(read_spec(main)) is None
    assert used_files(read_spec('use "b.fp4"\nkernel k() {}')) is None
