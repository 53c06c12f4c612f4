"""Files that use files: order, names, circles, reading errors."""

from __future__ import annotations

from pathlib import Path

from fp4cc.sema import analyze
from fp4cc.source import Source

KERNEL = "kernel k(M, N) {\n in x : nvfp4[M, N]\n out y : f32[M, N]\n y = x\n}\n"


def write(folder: Path, **files: str) -> Path:
    for name, text in files.items():
        path = folder / f"{name.replace('__', '/')}.fp4"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return folder / "main.fp4"


def codes(path: Path) -> list[str]:
    return [d.code for d in analyze(path).diagnostics]


def test_formats_layouts_and_functions_are_seen(tmp_path: Path) -> None:
    main = write(
        tmp_path,
        main='use "lib/formats.fp4"\nkernel k(M, K) { in x : mine[M, K]; out y : f32[M, K]; y = twice(x) }\n'
        "format more extends mine { layout flat }\n",
        lib__formats='use "deeper/layouts.fp4"\nformat mine extends nvfp4 { layout flat }\nfn twice(x) = 2 * x\n'
        "layout flat { coords row : 1, k : 1; atom (1, 1) : (0, 0); order row, k, batch }\n",
        lib__deeper__layouts="layout deep { coords k : 4; atom (4) : (1) }\n",
    )
    checked = analyze(main)
    assert not checked.diagnostics
    assert checked.kernels[0].arg("x").format is not None
    assert checked.kernels[0].arg("x").format.layout.order == ("row", "k", "batch")
    assert set(checked.formats) == {"more"}


def test_only_what_is_used_directly_is_seen(tmp_path: Path) -> None:
    main = write(
        tmp_path,
        main='use "a.fp4"\nkernel k(M, K) { in x : far[M, K]; out y : f32[M, K]; y = x }\n',
        a='use "b.fp4"\nformat near extends far {}\n',
        b="format far extends nvfp4 { quantizer nvfp4_amax }\n",
    )
    assert codes(main) == ["FP2019"]


def test_a_file_used_twice_is_read_once(tmp_path: Path) -> None:
    main = write(
        tmp_path,
        main='use "a.fp4"\nuse "b.fp4"\nuse "a.fp4"\n' + KERNEL,
        a='use "b.fp4"\nfn f(x) = g(x)\n',
        b="fn g(x) = x\n",
    )
    assert codes(main) == []


def test_errors_in_used_files_are_found(tmp_path: Path) -> None:
    main = write(tmp_path, main='use "a.fp4"\n' + KERNEL, a="fn f(x) = z\nkernel j(M) { in q : f33[M] }\n")
    found = analyze(main).diagnostics
    assert [d.code for d in found] == ["FP2001", "FP2019"]
    assert all(d.span is not None and d.span.source.name.endswith("a.fp4") for d in found)


def test_two_files_that_define_one_name(tmp_path: Path) -> None:
    main = write(tmp_path, main='use "a.fp4"\nuse "b.fp4"\n' + KERNEL, a="fn f(x) = x\n", b="fn f(x) = 2 * x\n")
    assert codes(main) == ["FP2002"]


def test_a_used_name_is_not_defined_again(tmp_path: Path) -> None:
    main = write(tmp_path, main='use "a.fp4"\nfn f(x) = 2 * x\n' + KERNEL, a="fn f(x) = x\n")
    assert codes(main) == ["FP2002"]


def test_circles_are_named(tmp_path: Path) -> None:
    main = write(tmp_path, main='use "a.fp4"\n' + KERNEL, a='use "b.fp4"\n', b='use "a.fp4"\n')
    (found,) = analyze(main).diagnostics
    assert found.code == "FP2032"
    assert found.labels[0].text == "the circle is `a.fp4` -> `b.fp4` -> `a.fp4`"


def test_a_missing_file_hides_its_names_only(tmp_path: Path) -> None:
    main = write(
        tmp_path,
        main='use "gone.fp4"\nkernel k(M, K) { in x : its[M, K]; out y : f32[M, K]; y = f(x) }\n'
        "kernel j(M) { in x : f32[M]; out y : f32[M]; y = z }\n",
    )
    assert codes(main) == ["FP2030", "FP2001"]


def test_a_folder_is_not_a_file(tmp_path: Path) -> None:
    (tmp_path / "lib.fp4").mkdir()
    assert codes(write(tmp_path, main='use "lib.fp4"\n')) == ["FP2030"]
    assert codes(tmp_path / "missing.fp4") == ["FP2030"]


def test_a_used_file_that_is_no_text(tmp_path: Path) -> None:
    (tmp_path / "a.fp4").write_bytes(b"# \xff\xfe\n")
    assert codes(write(tmp_path, main='use "a.fp4"\n')) == ["FP1008"]


def test_a_text_may_be_given_a_folder(tmp_path: Path) -> None:
    write(tmp_path, a="fn f(x) = x\n")
    text = 'use "a.fp4"\nkernel k(M) { in x : f32[M]; out y : f32[M]; y = f(x) }\n'
    assert not analyze(Source("t", text), tmp_path).failed
    assert [d.code for d in analyze(Source("t", text)).diagnostics] == ["FP2030"]


def test_a_function_sees_its_own_file(tmp_path: Path) -> None:
    """Not its caller's: what a library's function calls, and means, does not depend on who uses it."""
    main = write(
        tmp_path,
        main='use "a.fp4"\nfn clamp(x, low, high) = x * 100\nformat nvfp4 extends mxfp4 {}\n'
        "kernel k(M) { in x : f32[M]; out y : f32[M]; y = f(x) + clamp(x, 0, 1) }\n",
        a='use "b.fp4"\nfn f(x, top = g(1)) = clamp(g(x), 0, top)\n',
        b="fn g(x) = x + 7\n",
    )
    (kernel,) = analyze(main).raise_errors().kernels
    ops = [value.op for value in kernel.values]
    assert {"min", "max", "add", "mul"} <= set(ops)
    assert sorted(v.attrs["value"] for v in kernel.values if v.op == "const") == [0.0, 7.0, 8.0, 100.0]
