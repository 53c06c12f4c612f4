"""Wheel, sdist, resources, and the runtime without the compiler's dependencies."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from .conftest import parsed

ROOT = Path(__file__).resolve().parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
RUNTIME = ("fp4num", "fp4rt", "fp4emu")


def _hatch(target: str, source: Path, out: Path) -> Path:
    done = subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", target, "-d", str(out)],
        cwd=source, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    (built,) = out.iterdir()
    return built


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return _hatch("wheel", ROOT, tmp_path_factory.mktemp("wheel"))


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel's files, as pip would lay them out."""
    folder = tmp_path_factory.mktemp("site")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder)
    return folder


def _names(wheel: Path) -> set[str]:
    with zipfile.ZipFile(wheel) as archive:
        return set(archive.namelist())


def test_the_wheel_has_every_package_grammar_and_template(wheel: Path) -> None:
    names = _names(wheel)
    for package in ("fp4cc", *(f"runtime/{name}" for name in RUNTIME)):
        for path in (ROOT / package).rglob("*.py"):
            relative = path.relative_to(ROOT / "runtime" if package.startswith("runtime") else ROOT)
            assert str(relative) in names
    for folder in ("grammar", "templates"):
        for path in (p for p in (ROOT / folder).rglob("*") if p.is_file()):
            assert f"fp4cc/_data/{path.relative_to(ROOT)}" in names
    for path in (ROOT / "examples" / "recipes").glob("*.fp4"):
        assert f"fp4cc/_data/recipes/{path.name}" in names
    assert {f"{package}/py.typed" for package in ("fp4cc", *RUNTIME)} <= names


def test_the_wheel_has_nothing_else(wheel: Path) -> None:
    tops = {name.split("/")[0] for name in _names(wheel)}
    assert tops == {"fp4cc", *RUNTIME, f"fp4cc-{PROJECT['version']}.dist-info"}


def test_the_sdist_builds_the_same_wheel(wheel: Path, tmp_path: Path) -> None:
    sdist = _hatch("sdist", ROOT, tmp_path / "sdist")
    with tarfile.open(sdist) as archive:
        archive.extractall(tmp_path / "source", filter="data")
    (source,) = (tmp_path / "source").iterdir()
    again = _hatch("wheel", source, tmp_path / "wheel")
    assert _names(again) == _names(wheel)
    assert (source / "tests" / "packaging" / "test_distribution.py").is_file()


def _python(code: str, path: Path, *, blocked: tuple[str, ...] = ()) -> subprocess.CompletedProcess[str]:
    """Run code with the unpacked wheel first on the path and some packages impossible to import."""
    block = f"""
import sys
class Block:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {blocked!r}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)
sys.meta_path.insert(0, Block())
"""
    return subprocess.run(
        [sys.executable, "-P", "-c", block + code],
        env={**os.environ, "PYTHONPATH": str(path)},
        capture_output=True, text=True, check=False,
    )  # fmt: skip


def test_an_installed_wheel_finds_its_own_resources(installed: Path) -> None:
    done = _python(
        "from fp4cc.resources import grammar_text, recipes_dir, templates_dir\n"
        "import fp4cc\n"
        "print(fp4cc.__file__)\n"
        "print(templates_dir())\n"
        "print(recipes_dir())\n"
        "grammar_text('fp4.lark')\n",
        installed,
    )
    assert done.returncode == 0, done.stderr
    assert all(line.startswith(str(installed)) for line in done.stdout.splitlines())


def test_an_installed_wheel_is_found_as_the_compiler_and_has_the_recipes(installed: Path) -> None:
    """By the entry point in its metadata: fp4rt imports no compiler by name."""
    done = _python(
        "import sys\n"
        "from fp4rt import supply\n"
        "assert supply.known() and 'fp4cc' not in sys.modules\n"
        "artifact = supply.supplier()('linear_layers', 'mxfp8', None)\n"
        "print(sys.modules['fp4cc'].__file__, artifact.manifest.name)\n",
        installed,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(str(installed)) and done.stdout.endswith("mxfp8\n")


COMPILER_ONLY = ("lark", "jinja2", "cutlass", "nvidia_cutlass_dsl", "click", "platformdirs", "filelock", "torch")


def test_the_runtime_needs_numpy_alone(installed: Path) -> None:
    """Everything a deployment imports, with all of the compiler's dependencies and cuda-python out of reach."""
    done = _python(
        "import sys, numpy as np\n"
        "import fp4num, fp4rt, fp4emu\n"
        "x = np.ones((4, 32), np.float32)\n"
        "q = fp4rt.quantize(x, 'nvfp4')\n"
        "assert (fp4rt.dequantize(q) == x).all()\n"
        "fp4rt.Artifact, fp4rt.load, fp4emu.Gpu\n"
        "print(sorted(m for m in sys.modules if m.split('.')[0] in ('fp4cc', 'cuda')))\n",
        installed,
        blocked=(*COMPILER_ONLY, "fp4cc", "cuda"),
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "[]"


def test_readme_installs_the_runtime_with_the_declared_bounds() -> None:
    (line,) = [
        line for line in (ROOT / "README.md").read_text().splitlines() if line.startswith("pip install --no-deps")
    ]
    wanted = set(re.findall(r"'([^']+)'", line))
    assert wanted == {r for r in PROJECT["dependencies"] if r.startswith(("numpy", "cuda-python"))}


def test_every_dependency_has_a_lower_and_an_upper_bound() -> None:
    extras = [r for group in PROJECT["optional-dependencies"].values() for r in group]
    for requirement in (*PROJECT["dependencies"], *extras):
        assert "==" in requirement or (">=" in requirement and "<" in requirement), requirement


ALLOWED = {
    "fp4num": {"fp4num"},
    "fp4emu": {"fp4emu", "fp4num"},
    "fp4rt": {"fp4rt", "fp4num"},
    "fp4cc": {"fp4cc", "fp4rt", "fp4num"},
}


@pytest.mark.parametrize("package", ALLOWED)
def test_packages_import_only_what_the_import_rule_allows(package: str) -> None:
    """fp4num <- fp4emu, fp4num <- fp4rt <- fp4cc.

    The emulator's device adapter may reach fp4emu inside a function, and name its types to a type checker.
    """
    folder = ROOT / package if package == "fp4cc" else ROOT / "runtime" / package
    ours = set(ALLOWED)
    for path in folder.rglob("*.py"):
        tree = parsed(path)
        adapter = path.name == "emulator.py" and package == "fp4rt"
        late = [f for f in ast.walk(tree) if isinstance(f, ast.FunctionDef | ast.If)] if adapter else []
        lazy = {id(n) for f in late for n in ast.walk(f)}
        for node in ast.walk(tree):
            if isinstance(node, ast.Import):
                names = {alias.name.split(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                names = {node.module.split(".")[0]}
            else:
                continue
            if id(node) in lazy:
                names -= {"fp4emu"}
            assert names & ours <= ALLOWED[package], f"{path.relative_to(ROOT)}:{node.lineno}"


#: The rooms of `fp4cc.passes`, each of which may import those before it.
ROOMS = ("problem", "epilogue", "rewrites", "resources", "feeds", "choice", "engines")


def _imported(path: Path) -> Iterator[str]:
    """The modules that a file imports, wherever in it."""
    for node in ast.walk(parsed(path)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def _upward(importer: str, imported: str) -> bool:
    """Whether a module of the passes imports one of a later room, or of another engine."""
    (*_, room), (*_, other) = (name.split(".")[:3] for name in (importer, imported))
    if room not in ROOMS:
        return False  # `lower` itself
    if other not in ROOMS:
        return imported.count(".") >= 2  # nobody imports `lower`
    ours, theirs = importer.split("."), imported.split(".")
    strangers = room == other == "engines" and len(ours) > 4 and ours[3] != (theirs[3:4] or [""])[0]
    return ROOMS.index(other) > ROOMS.index(room) or strangers


def test_rooms_of_the_passes_import_no_later_room() -> None:
    passes = ROOT / "fp4cc" / "passes"
    assert {path.parent.name for path in passes.glob("*/*.py")} == set(ROOMS)
    for path in passes.rglob("*.py"):
        importer = ".".join(path.relative_to(ROOT).with_suffix("").parts)
        for imported in _imported(path):
            if imported.startswith("fp4cc.passes."):
                assert not _upward(importer, imported), f"{importer} imports {imported}"
            assert not imported.startswith(("fp4cc.codegen", "fp4cc.explain")), f"{importer} imports {imported}"


@pytest.mark.parametrize(
    ("importer", "imported", "upward"),
    [
        ("fp4cc.passes.problem.halves", "fp4cc.passes.engines.tcgen05.lower", True),
        ("fp4cc.passes.feeds.converters", "fp4cc.passes.choice.schedule", True),
        ("fp4cc.passes.choice.schedule", "fp4cc.passes.feeds.converters", False),
        ("fp4cc.passes.engines.wgmma.lower", "fp4cc.passes.engines.tcgen05.memory", True),
        ("fp4cc.passes.engines.wgmma.lower", "fp4cc.passes.engines.wgmma.memory", False),
        ("fp4cc.passes.engines.wgmma.lower", "fp4cc.passes.lower", True),
        ("fp4cc.passes.lower", "fp4cc.passes.engines.wgmma.lower", False),
    ],
)
def test_what_counts_as_upward(importer: str, imported: str, upward: bool) -> None:
    assert _upward(importer, imported) == upward


@pytest.mark.parametrize("layer", ["codegen", "ir"])
def test_what_is_below_the_passes_imports_nothing_of_them(layer: str) -> None:
    """What codegen needs to know is in the lowered kernel."""
    for path in (ROOT / "fp4cc" / layer).rglob("*.py"):
        found = [name for name in _imported(path) if name.startswith("fp4cc.passes")]
        assert not found, f"{path.relative_to(ROOT)} imports {found}"


def test_the_runtime_imports_no_third_party_package_but_numpy_at_import_time() -> None:
    standard = sys.stdlib_module_names
    for package in RUNTIME:
        for path in (ROOT / "runtime" / package).rglob("*.py"):
            for node in parsed(path).body:
                if isinstance(node, ast.Import):
                    tops = {alias.name.split(".")[0] for alias in node.names}
                elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                    tops = {node.module.split(".")[0]}
                else:
                    continue
                allowed = {
                    "numpy",
                    *RUNTIME,
                    *({"torch"} if path.parent.name == "torch" else ()),
                }  # imported when asked
                foreign = tops - standard - allowed
                assert not foreign, f"{path.relative_to(ROOT)} imports {foreign}"


def test_readme_commands_are_found_by_ci() -> None:
    """`.ci/run` takes its commands from README by their marker comments."""
    text = (ROOT / "README.md").read_text()
    for marker in ("run", "tests"):
        block = re.search(rf"<!-- {marker} -->\n```sh\n(.+)\n```", text)
        assert block is not None
        assert block.group(1).startswith("python3 -m venv .venv && .venv/bin/pip install")
