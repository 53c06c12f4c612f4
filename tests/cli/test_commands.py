"""What each command prints and writes."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest

import fp4rt
from fp4num import Quantized, quantize

Run = Callable[..., Any]

WRONG = """\
kernel wrong(M, N, K) {
    in  a : nvfp5[M, K]
    in  b : nvfp4[N, J]
    out c : bf16[M, N]
    c = a @ b.T
}
"""


def test_check_accepts_a_right_spec(fp4cc: Run, gemm: Path) -> None:
    ran = fp4cc("check", gemm)
    assert (ran.status, ran.err) == (0, "")
    assert ran.out == f"{gemm}: 1 kernel, no errors\n"
    answer = json.loads(fp4cc("check", gemm, "--json").out)
    assert answer == {"ok": True, "kernels": ["gemm"], "diagnostics": []}


def test_check_prints_all_errors_with_their_places(fp4cc: Run, tmp_path: Path) -> None:
    path = tmp_path / "wrong.fp4"
    path.write_text(WRONG)
    ran = fp4cc("check", path)
    assert ran.status == 1
    assert ran.out == ""
    assert f"{path}:2:13" in ran.err
    assert f"{path}:3:22" in ran.err
    assert "did you mean `nvfp4`?" in ran.err
    answer = json.loads(fp4cc("check", path, "--json").out)
    assert answer["ok"] is False
    assert {d["labels"][0]["line"] for d in answer["diagnostics"]} >= {2, 3}
    assert all(d["code"].startswith("FP") for d in answer["diagnostics"])


def test_check_reads_standard_input(fp4cc: Run, monkeypatch: pytest.MonkeyPatch, gemm: Path) -> None:
    class Stdin:
        buffer = gemm.open("rb")

    monkeypatch.setattr("sys.stdin", Stdin)
    ran = fp4cc("check", "-")
    assert ran.out == "<stdin>: 1 kernel, no errors\n"


def test_a_file_that_is_not_text_is_a_coded_error(fp4cc: Run, tmp_path: Path) -> None:
    path = tmp_path / "binary.fp4"
    path.write_bytes(b"kernel \xff\xfe")
    ran = fp4cc("check", path)
    assert ran.status == 1
    assert "error[FP1008]" in ran.err


def test_compile_writes_the_artifact_and_nothing_else(fp4cc: Run, gemm: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    ran = fp4cc("compile", gemm, "-o", out, "--plans", 1)
    assert ran.status == 0, ran.err
    assert {p.name for p in out.iterdir()} == {"gemm.cubin", "gemm.ptx", "gemm.json"}
    assert set(ran.out.split()) == {str(p) for p in out.iterdir()}
    artifact = fp4rt.Artifact.load(out / "gemm.json")
    assert artifact.manifest.target == "sm_100a"
    assert not [c for c in artifact.manifest.constraints if "/" in c.span], "a folder got into the manifest"


def test_compile_keeps_the_python_on_request_and_answers_in_json(fp4cc: Run, gemm: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    answer = json.loads(fp4cc("compile", gemm, "-o", out, "--keep-python", "--json", "--plans", 1).out)
    assert answer["ok"] is True
    assert {Path(p).name for p in answer["kernels"]["gemm"]} == {"gemm.cubin", "gemm.ptx", "gemm.json", "gemm.py"}
    compile((out / "gemm.py").read_text(), "gemm.py", "exec")


def test_static_dims_that_break_a_condition_are_errors(fp4cc: Run, gemm: Path, tmp_path: Path) -> None:
    ran = fp4cc("compile", gemm, "-o", tmp_path / "out", "--set", "K=100")
    assert ran.status == 1
    assert "K" in ran.err
    assert "error[FP" in ran.err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("stage", "expected"),
    [
        ("ast", "Kernel @1:1"),
        ("ir", "kernel gemm(M, N, K) {"),
        ("lowered", "LoweredKernel"),
        ("python", "def compile(arch"),
        ("ptx", ".visible .entry gemm"),
    ],
)
def test_emit_prints_each_stage(fp4cc: Run, gemm: Path, tmp_path: Path, stage: str, expected: str) -> None:
    path = tmp_path / "stage"
    ran = fp4cc("emit", gemm, "--stage", stage, "-o", path)
    assert ran.status == 0, ran.err
    assert expected in path.read_text()


def test_emit_writes_the_same_cubin_as_compile(fp4cc: Run, gemm: Path, tmp_path: Path) -> None:
    fp4cc("compile", gemm, "-o", tmp_path / "out", "--plans", 1)
    fp4cc("emit", gemm, "--stage", "cubin", "-o", tmp_path / "x.cubin")
    assert (tmp_path / "x.cubin").read_bytes() == (tmp_path / "out" / "gemm.cubin").read_bytes()


def test_sass_without_nvdisasm_says_how_to_get_it(
    fp4cc: Run, gemm: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fp4cc.backend.sass.find_nvdisasm", lambda: None)
    ran = fp4cc("emit", gemm, "--stage", "sass", "-o", tmp_path / "x.sass")
    assert ran.status == 1
    assert "pip install nvidia-cuda-nvdisasm" in ran.err


def test_run_compares_the_emulator_with_the_reference(fp4cc: Run, gemm: Path) -> None:
    ran = fp4cc("run", gemm, "--device", "emulator", "--at", "M=130", "--at", "N=72")
    assert ran.status == 0, ran.out + ran.err
    assert "M = 130, N = 72" in ran.out
    assert ran.err == "sizes chosen: K = 256; others with --at K=...\n"
    assert ran.out.endswith("equal to the reference, bit for bit\n")


def test_run_answers_in_json(fp4cc: Run, gemm: Path) -> None:
    answer = json.loads(fp4cc("run", gemm, "--device", "reference", "--set", "M=8", "--json").out)
    assert answer["ok"] is True
    assert answer["sizes"]["M"] == 8
    assert answer["chosen_sizes"] == {"N": answer["sizes"]["N"], "K": answer["sizes"]["K"]}
    assert answer["outputs"][0]["name"] == "c"
    assert answer["outputs"][0]["elements"] == 8 * answer["sizes"]["N"]


def test_run_of_ordinary_data_counts_the_places_that_differ(fp4cc: Run, tmp_path: Path) -> None:
    """Normal numbers in MXFP8: 1,100 of 16,384 sums differ by their order. `run` says so, and it is right."""
    spec = tmp_path / "mx.fp4"
    spec.write_text("kernel mx(M, N, K) { in a : mxfp8[M, K]; in b : mxfp8[N, K]; out c : f32[M, N]; c = a @ b.T }\n")
    rng = np.random.default_rng(0)
    for name in "ab":
        np.save(tmp_path / f"{name}.npy", rng.standard_normal((128, 512)).astype(np.float32))
    inputs = [f"--input={name}={tmp_path}/{name}.npy" for name in "ab"]
    ran = fp4cc("run", spec, "--device", "emulator", *inputs)
    assert ran.status == 0, ran.out + ran.err
    assert "equal to the reference within the bounds of sums in another order" in ran.out
    assert re.search(r"c: \d+ of 16384 elements differ within the bound of their sums, the farthest by \d+", ran.out)
    answer = json.loads(fp4cc("run", spec, "--device", "emulator", *inputs, "--json").out)
    (output,) = answer["outputs"]
    assert answer["compared"] == "bounds"
    assert 0 < output["within"] == output["different"] and output["wrong"] == output["undecided"] == 0
    exact = json.loads(fp4cc("run", spec, "--device", "emulator", "--set=M=128", "--set=N=128", "--json").out)
    assert (exact["compared"], exact["outputs"][0]["different"]) == ("bits", 0)


def test_the_reference_is_compared_with_nothing(fp4cc: Run, gemm: Path) -> None:
    ran = fp4cc("run", gemm, "--device", "reference", "--set", "M=8")
    assert ran.status == 0
    assert ran.out.endswith("this is the reference: nothing to compare with\n")
    assert "equal" not in ran.out
    assert json.loads(fp4cc("run", gemm, "--device", "reference", "--set", "M=8", "--json").out)["compared"] == "none"


def test_a_number_on_the_device_comes_from_a_file(fp4cc: Run, tmp_path: Path) -> None:
    spec = tmp_path / "scale.fp4"
    spec.write_text("kernel scale(M, N) { in x : f32[M, N]; in s : f32[]; out y : f32[M, N]; y = s * x }\n")
    np.save(tmp_path / "s.npy", np.asarray(0.5, np.float32))
    ran = fp4cc("run", spec, "--device", "reference", "--set=M=4", "--set=N=4", "--input", f"s={tmp_path}/s.npy")
    assert ran.status == 0, ran.err


def test_run_says_which_constraint_fails(fp4cc: Run, gemm: Path) -> None:
    ran = fp4cc("run", gemm, "--device", "reference", "--at", "K=24")
    assert ran.status == 1
    assert "K" in ran.err
    assert "error[FP6" in ran.err
    ran = fp4cc("run", gemm, "--device", "reference", "--set", "K=24")
    assert ran.status == 1
    assert "error[FP" in ran.err


def test_run_takes_arrays_and_quantized_arguments_from_files(fp4cc: Run, gemm: Path, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    x, w = rng.standard_normal((40, 64), np.float32), rng.standard_normal((48, 64), np.float32)
    q = quantize(w, "nvfp4")
    np.save(tmp_path / "a.npy", x)
    np.savez(tmp_path / "b.npz", codes=q.codes, scales=q.scales, tensor_scale=q.tensor_scale)
    inputs = ("--input", f"a={tmp_path}/a.npy", "--input", f"b={tmp_path}/b.npz")
    ran = fp4cc("run", gemm, "--device", "reference", *inputs, "--save", tmp_path / "out")
    assert ran.status == 0, ran.err
    assert "M = 40, N = 48, K = 64" in ran.out
    c = (np.load(tmp_path / "out" / "c.npy").astype(np.uint32) << 16).view(np.float32)
    exact = fp4rt.dequantize(quantize(x, "nvfp4")) @ fp4rt.dequantize(q).T
    np.testing.assert_allclose(c, exact, rtol=2**-7, atol=1e-4)


def test_files_that_do_not_fit_are_named(fp4cc: Run, gemm: Path, tmp_path: Path) -> None:
    np.save(tmp_path / "ints.npy", np.zeros((4, 64), np.int64))
    np.savez(tmp_path / "parts.npz", codes=np.zeros((4, 32), np.uint8))
    (tmp_path / "text.npy").write_text("not an array")
    for name, message in (
        ("ints.npy", "FP6104.*dtype int64"),
        ("parts.npz", "FP6410.*it has codes; a quantized tensor has codes, scales"),
        ("text.npy", "FP6410.*neither a .npy nor a .npz file"),
    ):
        ran = fp4cc("run", gemm, "--device", "reference", "--input", f"a={tmp_path / name}")
        assert ran.status == 1
        assert re.search(message, ran.err)
    ran = fp4cc("run", gemm, "--device", "reference", "--input", f"z={tmp_path}/ints.npy")
    assert "gemm has no input 'z'; inputs: a, b" in ran.err


def test_a_pickled_array_is_refused(fp4cc: Run, gemm: Path, tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.array([{}], object), allow_pickle=True)
    ran = fp4cc("run", gemm, "--device", "reference", "--input", f"a={tmp_path}/a.npy")
    assert ran.status == 1
    assert "FP6410" in ran.err
    assert "Python objects, which are never unpickled" in ran.err


def test_saved_quantized_outputs_can_be_read_back(tmp_path: Path) -> None:
    from fp4cc.cli.arrays import save_outputs

    q = quantize(np.ones((3, 32), np.float32), "nvfp4")
    save_outputs(tmp_path, {"q": q})
    parts = np.load(tmp_path / "q.npz")
    back = Quantized.from_parts(parts["codes"], parts["scales"], parts["tensor_scale"], "nvfp4", tuple(parts["shape"]))
    assert (fp4rt.dequantize(back) == 1).all()


def test_scales_from_files_say_their_layout(fp4cc: Run, gemm: Path, tmp_path: Path) -> None:
    """Row-major scales were taken as blocked ones, and the run called equal, bit for bit."""
    w = np.random.default_rng(0).standard_normal((128, 256), np.float32)
    q = quantize(w, "nvfp4")
    rows = q.scale_grid()[0]
    np.save(tmp_path / "a.npy", np.eye(256, dtype=np.float32))
    good = {"codes": q.codes, "scales": q.scales, "tensor_scale": q.tensor_scale}
    bad = q.scales.copy()
    bad[7] = 0xB8
    files: dict[str, tuple[dict[str, Any], str]] = {
        "flat": (good, ""),
        "linear": ({**good, "scales": rows, "layout": "linear"}, ""),
        "rows": ({**good, "scales": rows}, "not one of shape (128, 16)"),
        "atoms": ({**good, "scales": q.scales.reshape(-1, 32, 4, 4)}, "does not say which layout"),
        "short": ({**good, "scales": q.scales[:-1]}, "fill 2048 elements"),
        "layout": ({**good, "layout": "rows"}, "layout is a ScaleLayout or one of"),
        "negative": ({**good, "scales": bad}, "0xB8, which is negative"),
        "nan": ({**good, "scales": np.full_like(q.scales, 0x7F)}, "0x7F, which is NaN"),
        "text": ({**good, "tensor_scale": np.array("x")}, "it is one float"),
        "codes": ({**good, "tensor_scale": np.uint16(0x3F80)}, "it is one float"),
    }
    found: list[np.ndarray] = []
    for name, (parts, message) in files.items():
        np.savez(tmp_path / f"{name}.npz", **parts)
        inputs = ("--input", f"a={tmp_path}/a.npy", "--input", f"b={tmp_path}/{name}.npz")
        ran = fp4cc("run", gemm, "--device", "reference", *inputs, "--save", tmp_path / name)
        assert message in ran.err, name
        assert ran.status == 0 if not message else ran.status in (1, 2), (name, ran.err)
        if not message:
            found.append(np.load(tmp_path / name / "c.npy"))
    np.testing.assert_array_equal(found[0], found[1])
    exact = fp4rt.dequantize(q).T
    assert np.linalg.norm(fp4rt.decode(found[0], "bf16") - exact) < 0.02 * np.linalg.norm(exact)


def test_a_ragged_argument_from_a_file_needs_its_offsets(fp4cc: Run, tmp_path: Path) -> None:
    spec = tmp_path / "moe.fp4"
    spec.write_text(
        "kernel moe(E, M, N, K) { in offsets : i32[E + 1]; in x : nvfp4[M by offsets, K]\n"
        "in w : nvfp4[E, N, K]; out y : f32[M by offsets, N]; y = x @ w.T }\n"
    )
    x, offsets = np.random.default_rng(0).standard_normal((200, 64), np.float32), np.array([0, 100, 200], np.int32)
    w = quantize(np.tile(np.eye(64, dtype=np.float32)[:16], (2, 1, 1)), "nvfp4", tensor_scale=1 / 6)
    q = quantize(x, "nvfp4", offsets=offsets)
    np.save(tmp_path / "offsets.npy", offsets)
    np.save(tmp_path / "x.npy", x)
    np.savez(tmp_path / "x.npz", codes=q.codes, scales=q.scales, tensor_scale=q.tensor_scale)
    np.savez(tmp_path / "w.npz", codes=w.codes, scales=w.scales, tensor_scale=w.tensor_scale)
    run = ("run", spec, "--device", "reference", "--save", tmp_path / "out", "--input", f"w={tmp_path}/w.npz")
    ran = fp4cc(*run, "--input", f"x={tmp_path}/x.npz")
    assert ran.status == 2 and "give --input offsets=FILE as well" in ran.err
    for file in ("x.npy", "x.npz"):
        ran = fp4cc(*run, "--input", f"x={tmp_path / file}", "--input", f"offsets={tmp_path}/offsets.npy")
        assert ran.status == 0, ran.err
        np.testing.assert_array_equal(np.load(tmp_path / "out" / "y.npy"), fp4rt.dequantize(q)[:, :16])
    sizes = [part for size in ("M=200", "N=16", "K=64") for part in ("--set", size)]
    ran = fp4cc("run", spec, "--device", "reference", "--input", f"offsets={tmp_path}/offsets.npy", *sizes)
    assert ran.status == 0, ran.err  # random rows go by the offsets that were given


def test_saved_nan_blocks_and_typed_outputs_can_be_read_back(fp4cc: Run, tmp_path: Path) -> None:
    from fp4cc.cli.arrays import save_outputs
    from fp4num.dtypes import codes_dtype

    x = np.ones((3, 32), np.float32)
    x[1, 3] = np.nan
    q = quantize(x, "nvfp4", quantizer="nvfp4_modelopt", tensor_scale=0.01)
    bf16 = fp4rt.encode(np.float32([[1, 2]]), "bf16")
    save_outputs(tmp_path, {"q": q, "y": bf16.view(codes_dtype("bf16"))})
    saved = np.load(tmp_path / "y.npy")
    assert saved.dtype == np.uint16
    np.testing.assert_array_equal(saved, bf16)
    spec = tmp_path / "copy.fp4"
    spec.write_text("kernel copy(M, K) { in q : nvfp4[M, K]; out y : f32[M, K]; y = dequantize(q) }\n")
    ran = fp4cc("run", spec, "--device", "reference", "--input", f"q={tmp_path}/q.npz", "--save", tmp_path / "out")
    assert ran.status == 0, ran.err
    np.testing.assert_array_equal(np.load(tmp_path / "out" / "y.npy"), fp4rt.dequantize(q))


def test_verify_runs_shapes_and_delays(fp4cc: Run, gemm: Path) -> None:
    ran = fp4cc("verify", gemm, "--at", "N=64", "--at", "K=128", "--delays", "1")
    assert ran.status == 0, ran.out + ran.err
    assert "delays of seed 0" in ran.out
    assert "every run equals the reference" in ran.out


def test_explain_gives_choices_resources_and_time(fp4cc: Run, gemm: Path) -> None:
    ran = fp4cc("explain", gemm, "--set", "M=4096")
    assert ran.status == 0, ran.err
    for part in ("choices", "tcgen05.mma kind::mxf4nvf4", "instead of", "shared memory", "tensor memory",
                 "registers", "nothing spilled", "intensity", "roofline", "waves"):  # fmt: skip
        assert part in ran.out
    assert "N, K dynamic, taken as" in ran.out
    answer = json.loads(fp4cc("explain", gemm, "--no-compile", "--json").out)["kernels"][0]
    assert answer["resources"]["registers"] is None
    assert answer["resources"]["shared_memory"]["bytes"] <= answer["resources"]["shared_memory"]["limit"]
    assert answer["estimate"]["time"] >= answer["estimate"]["roofline_time"]


def test_layout_describes_formats_files_and_tensors(fp4cc: Run, tmp_path: Path) -> None:
    ran = fp4cc("layout", "nvfp4", "--shape", "200x96")
    assert ran.status == 0
    assert "element * scale * tensor_scale" in ran.out
    assert "uint8 [200, 48], 9600 bytes" in ran.out
    assert "127  508  509  510  511" in ran.out
    path = tmp_path / "mine.fp4"
    path.write_text("layout mine {\n coords row : 4, k : 2\n atom (4, 2) : (2, 1)\n order k, row, batch\n pad 0\n}\n")
    assert "layout mine" in fp4cc("layout", path).out
    svg = tmp_path / "mine.svg"
    assert fp4cc("layout", path, "--svg", svg).status == 0
    drawn = list(ElementTree.fromstring(svg.read_text()).iter())
    colors = {value for node in drawn for name, value in node.items() if name in ("fill", "stroke")}
    assert len(colors) > 2
    assert all(re.fullmatch("#[0-9a-f]{6}", color) for color in colors), "CairoSVG draws other notations black"
    answer = json.loads(fp4cc("layout", path, "--json").out)
    assert answer["layouts"][0]["atom_offsets"] == [[0, 1], [2, 3], [4, 5], [6, 7]]


def test_padding_is_not_passed_over(fp4cc: Run, tmp_path: Path) -> None:
    """1,024 matrices of 8 rows, each in atoms of 128: of the scale buffer 94 % is padding."""
    said = "983040 of 1048576 scales, 94% of the buffer"
    ran = fp4cc("layout", "nvfp4", "--shape", "1024x8x128")
    assert "983040 scales" in ran.out
    assert "94% of the buffer" in ran.out
    assert "batches as rows of one" in " ".join(ran.out.split())
    assert "batches as rows" not in fp4cc("layout", "nvfp4", "--shape", "1024x128x128").out
    answer = json.loads(fp4cc("layout", "nvfp4", "--shape", "1024x8x128", "--json").out)["formats"][0]
    assert (answer["scales_size"], answer["scales_padding"]) == (1048576, 983040)
    path = tmp_path / "heads.fp4"
    path.write_text(
        "kernel heads(L, M, N, K) {\n"
        " in a : nvfp4[L, M, K]; in b : nvfp4[N, K]\n out c : bf16[L, M, N]\n c = a @ b.T\n}\n"
    )
    sizes = ("--at", "L=1024", "--at", "M=8", "--at", "K=128", "--no-compile")
    assert said in fp4cc("explain", path, *sizes).out
    scales = json.loads(fp4cc("explain", path, *sizes, "--json").out)["kernels"][0]["scales"]
    assert scales["a"] == {"elements": 1048576, "padding": 983040}


def test_layout_of_a_colliding_definition_is_a_coded_error(fp4cc: Run, tmp_path: Path) -> None:
    path = tmp_path / "bad.fp4"
    path.write_text("layout bad {\n coords row : 4, k : 4\n atom (4, 4) : (4, 2)\n order k, row, batch\n pad 0\n}\n")
    ran = fp4cc("layout", path)
    assert ran.status == 1
    assert "error[FP3004]" in ran.err


def test_cache_says_what_it_holds_and_empties_it(fp4cc: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from fp4cc.cache import Store

    monkeypatch.setenv("FP4CC_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setenv("FP4CC_CACHE_SIZE", "10M")
    ran = fp4cc("cache", "info")
    assert ran.status == 0
    assert "0.0 MB of 10 MB" in ran.out
    Store().put("ab" * 32, {"k.ptx": bytes(1_000_000)})
    answer = json.loads(fp4cc("cache", "info", "--json").out)
    assert (answer["entries"], answer["limit"]) == (1, 10 << 20)
    assert 1_000_000 < answer["bytes"] < 1_010_000
    ran = fp4cc("cache", "clear")
    assert ran.status == 0
    assert "removed 1 entries, 1.0 MB, from" in ran.out
    assert json.loads(fp4cc("cache", "info", "--json").out)["entries"] == 0
    assert json.loads(fp4cc("cache", "clear", "--json").out)["removed"]["entries"] == 0


def test_doctor_reports_what_is_here(fp4cc: Run) -> None:
    ran = fp4cc("doctor", "--json")
    answer = json.loads(ran.out)
    assert ran.status == 0, ran.out
    found = {f["what"]: f for f in answer["findings"]}
    assert found["nvidia-cutlass-dsl"]["state"] == "fine"
    assert found["cache"]["state"] == "fine"
    assert all(f["fix"] for f in answer["findings"] if f["state"] == "missing")


def test_doctor_names_a_missing_dependency(fp4cc: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fp4cc.cli.checkup.requires", lambda _: ["no-such-thing<2,>=1", 'torch>=2; extra == "torch"'])
    ran = fp4cc("doctor")
    assert ran.status == 1
    assert 'pip install "no-such-thing<2,>=1"' in ran.out


def test_doctor_lists_the_gpus_of_a_machine_that_has_some(fp4cc: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    class Driver:
        """What cuda-python answers on a machine with one GPU."""

        class CUdevice_attribute:
            CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR = "major"
            CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR = "minor"

        def cuDriverGetVersion(self) -> tuple[int, int]:
            return 0, 13010

        def cuDeviceGetCount(self) -> tuple[int, int]:
            return 0, 1

        def cuDeviceGet(self, ordinal: int) -> tuple[int, int]:
            return 0, ordinal

        def cuDeviceGetName(self, length: int, device: int) -> tuple[int, bytes]:
            return 0, b"NVIDIA B200".ljust(length, b"\0")

        def cuDeviceGetAttribute(self, which: str, device: int) -> tuple[int, int]:
            return 0, {"major": 10, "minor": 0}[which]

    monkeypatch.setattr("fp4rt.cuda.driver.driver", Driver)
    monkeypatch.setattr("fp4rt.cuda.driver.check", lambda results, what: results[1])
    ran = fp4cc("doctor")
    assert "driver" in ran.out
    assert "CUDA 13.1" in ran.out
    assert "NVIDIA B200, sm_100a" in ran.out
