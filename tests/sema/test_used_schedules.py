"""Schedules of a file that a spec uses: whose they are, in which order, and what is hashed."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest

from fp4cc.driver import Request, read_spec
from fp4cc.driver.build import request_key
from fp4cc.driver.spec import used_hashes
from fp4cc.driver.stages import lower_kernels, manifest_text
from fp4cc.ir.kernel import Kernel
from fp4cc.sema import analyze
from fp4rt.errors import ArtifactError
from fp4rt.manifest import dumps, loads

GEMM = "kernel gemm(M, N, K) {\n in a : nvfp4[M, K]; in b : nvfp4[N, K]\n out c : bf16[M, N]\n c = a @ b.T\n}\n"
TUNED = "schedule gemm on sm_100a when M <= 16 { stages 4 }\nschedule gemm on sm_100a when M <= 64 { stages 5 }\n"


def write(folder: Path, main: str, **files: str) -> Path:
    for name, text in {"main": main, **files}.items():
        (folder / f"{name}.fp4").write_text(text)
    return folder / "main.fp4"


def kernel_of(path: Path) -> Kernel:
    (kernel,) = analyze(path).raise_errors().kernels
    return kernel


def stages(kernel: Kernel) -> list[object]:
    return [schedule.fields["stages"][0] for schedule in kernel.schedules]


def codes(path: Path) -> list[str]:
    return [d.code for d in analyze(path).diagnostics]


def test_a_used_file_has_schedules_for_the_kernels_of_the_file_that_uses_it(tmp_path: Path) -> None:
    main = write(tmp_path, 'use "tuned.fp4"\n' + GEMM, tuned=TUNED)
    assert stages(kernel_of(main)) == [4, 5]
    (plan,) = lower_kernels(Request(read_spec(main), plans=1))[0]
    assert [v.when for v in plan.variants] == [("le", "M", 16), ("le", "M", 64)]
    assert [v.smem.buffers[0].stages for v in plan.variants] == [4, 5]


def test_blocks_of_the_spec_itself_come_first_wherever_the_use_stands(tmp_path: Path) -> None:
    own = "schedule gemm on sm_100a when M <= 32 { stages 3 }\n"
    assert stages(kernel_of(write(tmp_path, own + 'use "tuned.fp4"\n' + GEMM, tuned=TUNED))) == [3, 4, 5]


def test_a_block_for_another_target_does_not_conflict(tmp_path: Path) -> None:
    own = "schedule gemm on sm_90a { stages 3 }\n"
    assert stages(kernel_of(write(tmp_path, own + 'use "tuned.fp4"\n' + GEMM, tuned=TUNED))) == [3, 4, 5]


@pytest.mark.parametrize(
    ("main", "files", "found"),
    [
        ('use "tuned.fp4"\n' + GEMM + "schedule gemm on sm_100a { }\n", {"tuned": TUNED}, ["FP5006"]),
        ('use "tuned.fp4"\nuse "more.fp4"\n' + GEMM, {"tuned": TUNED, "more": TUNED}, ["FP5007"]),
        ('use "tuned.fp4"\nuse "tuned.fp4"\n' + GEMM, {"tuned": TUNED}, []),
        ('use "tuned.fp4"\n' + GEMM, {"tuned": TUNED.replace("gemm", "gem")}, ["FP5001", "FP5001"]),
        ('use "tuned.fp4"\n' + GEMM, {"tuned": TUNED.replace("<= 64", "<= Q")}, ["FP2001"]),
        # For kernels of files that use it directly, not of those beyond.
        ('use "a.fp4"\n' + GEMM, {"a": 'use "tuned.fp4"\n', "tuned": TUNED}, ["FP5001", "FP5001"]),
        # A kernel of its own file comes before one of the same name.
        ('use "tuned.fp4"\n' + GEMM, {"tuned": GEMM + TUNED}, []),
    ],
)  # fmt: skip
def test_what_is_wrong_with_them(tmp_path: Path, main: str, files: dict[str, str], found: list[str]) -> None:
    assert codes(write(tmp_path, main, **files)) == found


def test_schedules_of_a_kernel_of_the_used_file_stay_there(tmp_path: Path) -> None:
    assert stages(kernel_of(write(tmp_path, 'use "tuned.fp4"\n' + GEMM, tuned=GEMM + TUNED))) == []


def test_a_file_of_schedules_alone_names_no_kernel(tmp_path: Path) -> None:
    write(tmp_path, GEMM, tuned=TUNED)
    assert codes(tmp_path / "tuned.fp4") == ["FP5001", "FP5001"]


def test_a_tuned_file_beside_the_spec_is_not_looked_at(tmp_path: Path) -> None:
    main = write(tmp_path, GEMM)
    (tmp_path / "main.tuned.fp4").write_text(TUNED)
    assert kernel_of(main).schedules == ()


def test_the_used_file_is_in_the_cache_key_and_in_the_manifest(tmp_path: Path) -> None:
    main = write(tmp_path, 'use "tuned.fp4"\n' + GEMM, tuned=TUNED)
    key, hashes = request_key(Request(read_spec(main))), used_hashes(read_spec(main))
    assert hashes == {"tuned.fp4": hashlib.sha256(TUNED.encode()).hexdigest()}
    (plan,) = lower_kernels(Request(read_spec(main), plans=1))[0]
    text = manifest_text(plan, {}, hashes)
    assert loads(text).sources == hashes
    assert dumps(loads(text)) == text
    (tmp_path / "tuned.fp4").write_text(TUNED + "# a word\n")
    assert request_key(Request(read_spec(main))) != key
    assert used_hashes(read_spec(main)) != hashes
    spoiled = json.loads(text) | {"sources": {"tuned.fp4": "?"}}
    with pytest.raises(ArtifactError, match="no SHA-256"):
        loads(json.dumps(spoiled))
