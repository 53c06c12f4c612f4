"""What a spec may read, and how large it may be: nothing waits, nothing leaks, nothing grows without end."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from fp4cc.diagnostics import DiagnosticError, render
from fp4cc.driver.build import request_key
from fp4cc.driver.request import Request
from fp4cc.driver.spec import read_spec, used_files
from fp4cc.files import MAX_BYTES, MAX_FILES, uses_in
from fp4cc.frontend import program
from fp4cc.frontend.program import MAX_KERNELS
from fp4cc.sema import analyze
from fp4cc.source import Source

KERNEL = "kernel k(M) { in x : f32[M]; out y : f32[M]; y = x }\n"


def main(folder: Path, text: str) -> Path:
    path = folder / "main.fp4"
    path.write_text(text)
    return path


def codes(path: Path) -> list[str]:
    return [d.code for d in analyze(path).diagnostics]


def special(folder: Path, kind: str) -> str:
    """A file in the folder that no spec should read to its end; returns its name."""
    path = folder / f"{kind}.fp4"
    match kind:
        case "pipe":
            os.mkfifo(path)
        case "folder":
            path.mkdir()
        case "large":
            with path.open("wb") as file:
                file.truncate(3 << 30)
        case "device":
            path.symlink_to("/dev/zero")
        case "loop":
            path.symlink_to(path)
        case _:
            secret = folder.parent / f"{folder.name}_secret"
            secret.mkdir(exist_ok=True)
            (secret / "key.fp4").write_text("the secret line\n")
            path.symlink_to(secret / "key.fp4")
    return path.name


KINDS = {
    "pipe": "FP2030", "folder": "FP2030", "large": "FP1009", "device": "FP2031", "loop": "FP2030", "link": "FP2031",
}  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
def test_special_files_are_refused_at_once(tmp_path: Path, kind: str) -> None:
    name = special(tmp_path, kind)
    start = time.monotonic()
    path = main(tmp_path, f'use "{name}"\n{KERNEL}')
    found = analyze(path).diagnostics
    assert [d.code for d in found] == [KINDS[kind]]
    assert "secret line" not in render(found)
    assert used_files(read_spec(path)) is None
    assert request_key(Request(read_spec(path), "sm_100a", {}, None)) is None
    assert time.monotonic() - start < 2


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("line", ['# use "{}"', '   # see use "{}" and "{}"', 'schedule_ "use {}"'])
def test_comments_and_strings_read_nothing(tmp_path: Path, kind: str, line: str) -> None:
    path = main(tmp_path, line.replace("{}", special(tmp_path, kind)) + "\n" + KERNEL)
    assert used_files(read_spec(path)) == {}


@pytest.mark.parametrize("written", ["/dev/zero", "../x.fp4", "a/../../x.fp4", "/etc/passwd", "a\\b.fp4", ""])
def test_paths_out_of_the_folder_are_never_opened(
    tmp_path: Path, written: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = main(tmp_path, f'use "{written}"\n{KERNEL}')
    text = path.read_text()
    spec = read_spec(path)

    def refuse(*_: object) -> int:
        raise AssertionError("a file was opened")

    monkeypatch.setattr(os, "open", refuse)
    assert used_files(spec) is None
    assert [d.code for d in analyze(Source("main.fp4", text), tmp_path).diagnostics] == ["FP2031"]


@pytest.mark.parametrize("kind", ["pipe", "folder", "large", "device"])
def test_the_main_file_is_a_plain_one_too(tmp_path: Path, kind: str) -> None:
    path = tmp_path / special(tmp_path, kind)
    if kind == "large":
        with pytest.raises(DiagnosticError) as caught:
            read_spec(path)
        assert [d.code for d in caught.value.diagnostics] == ["FP1009"]
    else:
        with pytest.raises(OSError):
            read_spec(path)
    assert codes(path) == ["FP1009" if kind == "large" else "FP2030"]


def test_a_text_has_the_limit_of_a_file(tmp_path: Path) -> None:
    text = KERNEL + "#" * MAX_BYTES
    assert [d.code for d in analyze(Source("x.fp4", text)).diagnostics] == ["FP1009"]
    path = main(tmp_path, text)
    with pytest.raises(DiagnosticError):
        read_spec(path)


def test_links_within_the_folder_are_followed(tmp_path: Path) -> None:
    (tmp_path / "lib").mkdir()
    (tmp_path / "lib" / "real.fp4").write_text('use "more.fp4"\nfn f(x) = g(x)\n')
    (tmp_path / "lib" / "more.fp4").write_text("fn g(x) = x\n")
    (tmp_path / "link.fp4").symlink_to(tmp_path / "lib" / "real.fp4")
    path = main(tmp_path, 'use "link.fp4"\n' + KERNEL.replace("y = x", "y = f(x)"))
    assert codes(path) == []
    assert set(used_files(read_spec(path)) or ()) == {"link.fp4", "lib/more.fp4"}
    # A link to the folder itself is the folder.
    (tmp_path.parent / f"{tmp_path.name}_link").symlink_to(tmp_path)
    other = tmp_path.parent / f"{tmp_path.name}_link" / "main.fp4"
    assert codes(other) == []
    assert used_files(read_spec(other)) == used_files(read_spec(path))


def test_every_use_that_parses_is_in_the_key(tmp_path: Path) -> None:
    """A use that the key did not see would give an old kernel after an edit of that file."""
    (tmp_path / "a.fp4").write_text("fn f(x) = x\n")
    for written in ('use "a.fp4"', 'use"a.fp4"', 'use\t"a.fp4"', '; use  "a.fp4" # "', 'use "a.fp4"\r'):
        path = main(tmp_path, written + "\n" + KERNEL)
        assert codes(path) == [], written
        assert set(used_files(read_spec(path)) or ()) == {"a.fp4"}, written
    assert uses_in('reuse "a"\n_use "b"\n"use" "c"\n"# " use "d"') == ["d"]


def test_many_files(tmp_path: Path) -> None:
    for i in range(MAX_FILES + 20):
        (tmp_path / f"f{i}.fp4").write_text(f'use "f{i + 1}.fp4"\n')
    (tmp_path / f"f{MAX_FILES + 20}.fp4").write_text("")
    path = main(tmp_path, f'use "f21.fp4"\n{KERNEL}')
    assert codes(path) == []
    path = main(tmp_path, f'use "f0.fp4"\n{KERNEL}')
    assert codes(path) == ["FP1014"]
    assert used_files(read_spec(path)) is None


def test_tokens_are_counted_over_all_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(program, "MAX_TOKENS", 400)
    for i in range(6):
        (tmp_path / f"f{i}.fp4").write_text("\n".join(f"fn g{i}_{j}(x) = x + {j}" for j in range(10)))
    path = main(tmp_path, "".join(f'use "f{i}.fp4"\n' for i in range(6)) + KERNEL)
    assert codes(path) == ["FP1014"]


def test_kernels_are_counted_over_all_files(tmp_path: Path) -> None:
    def kernels(first: int, number: int) -> str:
        return "".join(KERNEL.replace("kernel k", f"kernel k{first + i}") for i in range(number))

    (tmp_path / "half.fp4").write_text(kernels(1000, MAX_KERNELS // 2))
    (tmp_path / "more.fp4").write_text("fn f(x) = x\n")
    uses = 'use "half.fp4"\nuse "more.fp4"\n'
    assert codes(main(tmp_path, uses + kernels(0, MAX_KERNELS // 2))) == []
    (found,) = analyze(main(tmp_path, uses + kernels(0, MAX_KERNELS))).diagnostics
    assert found.code == "FP1014" and found.span is not None and found.span.text == f"k{MAX_KERNELS // 2}"


# Growth: each of these once took minutes, or all memory.


@pytest.mark.parametrize("depth", [40, 150])
@pytest.mark.parametrize("leaf", ["x", "r", "s", "3", "M", "uniform(rng)"])
@pytest.mark.parametrize("body", ["v * v", "v + v", "where(v > 0, v, -v)", "min(v, 1) * max(v, 2)"])
def test_doubling_is_linear(depth: int, leaf: str, body: str) -> None:
    nested = leaf
    names = ""
    for i in range(depth // 10):
        names += f" t{i} = {'f(' * 10}{nested}{')' * 10}\n"
        nested = f"t{i}"
    spec = (
        f"fn f(v) = {body}\nkernel k(M, N) {{\n in x : f32[M, N]; in r : f32[M]; in s : f32[]; in rng : u64[2]\n"
        f" out y : f32[M, N]\n{names} y = x * {nested}\n}}\n"
    )
    start = time.process_time()
    checked = analyze(Source("s.fp4", spec))
    assert time.process_time() - start < 2
    assert {d.code for d in checked.diagnostics} <= {"FP1007", "FP2035", "FP2018"}
    for kernel in checked.kernels:
        assert len(kernel.values) < 8 * depth + 50


def test_circles_of_dims_behind_others_are_found() -> None:
    """A circle that is not through the first name of each definition."""
    dims = "A = B + C, B = M / 1, C = D + E, D = M / 1, E = A + 1"
    found = analyze(Source("s.fp4", f"kernel k(M, {dims}) {{ in x : f32[M]; out y : f32[M]; y = x }}")).diagnostics
    assert [d.code for d in found] == ["FP2021"]
    assert found[0].labels[0].text == "`A` -> `C` -> `E` -> `A`"


def test_one_error_for_a_kernel_that_is_too_large() -> None:
    for head, body in (
        (", ".join(f"D{i}" for i in range(65)), "in x : f32[D0]; out y : f32[D0]; y = x"),
        ("M", "; ".join(f"in x{i} : f32[M]" for i in range(300)) + "; out y : f32[M]; y = x0"),
    ):
        found = analyze(Source("s.fp4", f"kernel k({head}) {{ {body} }}")).diagnostics
        assert [d.code for d in found] == ["FP2029"]
    doubling = "fn g0(x) = x\n" + "".join(f"fn g{i + 1}(x) = g{i}(g{i}(x))\n" for i in range(30))
    found = analyze(Source("s.fp4", doubling + KERNEL.replace("y = x", "y = g29(x); z = g29(y)"))).diagnostics
    assert [d.code for d in found].count("FP2029") == 1


def test_a_thousand_errors_are_a_hundred() -> None:
    body = "\n".join(f" a{i} = zzz{i}" for i in range(300))
    found = analyze(Source("s.fp4", f"kernel k(M) {{\n in x : f32[M]\n out y : f32[M]\n{body}\n y = x\n}}")).diagnostics
    assert len(found) == 101 and [d.code for d in found].count("FP1013") == 1
