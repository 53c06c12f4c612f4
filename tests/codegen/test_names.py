"""No name that a user chooses means anything else in an emitted file."""

from __future__ import annotations

import ast
import builtins
import keyword
import random
from functools import cache

import pytest

from fp4cc.codegen.names import Names, named
from fp4cc.codegen.scopes import MODULE, scopes
from fp4cc.marks import mark, marks_in, spelled, spelled_in

from .names_spec import SLOTS, SPECS, TARGETS, identifiers, modules, neutral, shape, spec, words

#: Of all words, spec slots and targets: how many each quick run tries.
SAMPLE = 15


@cache
def some_words() -> tuple[str, ...]:
    """Words of some examples."""
    return words(("nvfp4_gemm", "deepseek_linear"))


def check_renamed(plain: str, text: str) -> None:
    """The two files differ in names only, and what has one name in a function of the one has one in the other."""
    ours, theirs = ast.parse(text), ast.parse(plain)
    pairs = list(zip(identifiers(ours), identifiers(theirs), strict=True))
    new: dict[tuple[int, str], str] = {}
    old: dict[tuple[int, str], str] = {}
    for (scope, name), (_, before) in pairs:
        assert new.setdefault((scope, before), name) == name, f"{before} has two names"
        assert old.setdefault((scope, name), before) == before, f"{name} is both {before} and {old[scope, name]}"
        if name != before:
            assert not keyword.iskeyword(name)
            assert not hasattr(builtins, name)
    module = {name for scope, name in old if scope == 0}
    for (scope, name), before in old.items():
        if scope and name in module:
            assert before == old[0, name], f"{name} hides a name of the module"
    assert shape(ours) == shape(theirs)


def check_word(name: str, slot: str, word: str, target: str) -> None:
    """A spec with a word for one of its names gives the file of neutral names, renamed."""
    found = modules(spec(name, **{slot: word}), target)
    if found is None:
        return  # the language has this word for something, or Windows has
    expected = modules(neutral(name, **{slot: word}), target)
    assert expected is not None
    assert found.keys() == expected.keys()
    for stem, text in found.items():
        check_renamed(expected[stem], text)


def test_words_of_emitted_files_are_names_like_any() -> None:
    cases = [(n, s, w, t) for n in SPECS for s in SLOTS[n] for w in some_words() for t in TARGETS]
    assert len(some_words()) > 500
    for case in random.Random(7).sample(cases, SAMPLE):
        check_word(*case)


@pytest.mark.slow
@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize(("name", "slot"), [(n, s) for n in SPECS for s in SLOTS[n]])
def test_every_word_in_every_place(name: str, slot: str, target: str) -> None:
    for word in words():
        check_word(name, slot, word, target)


@pytest.mark.parametrize("target", TARGETS)
def test_words_in_all_places_at_once(target: str) -> None:
    some = random.Random(11)
    tried = 0
    while tried < 3:
        chosen = dict(zip(SLOTS["gemm"], some.sample(some_words(), len(SLOTS["gemm"])), strict=True))
        found = modules(spec("gemm", **chosen), target)
        if found is not None:
            tried += 1
            check_renamed((modules(neutral("gemm", **chosen), target) or {})[""], found[""])


#: Names of what a kernel has in shared memory.
HELD = ["acc", "ab", "sfa", "tmem", "columns"]
PLACES = ("output", "tile", "codes")


@pytest.mark.parametrize(
    ("slot", "word"),
    [
        pytest.param(slot, word, marks=[] if PLACES[i % 3] == slot else [pytest.mark.slow])
        for i, word in enumerate(HELD)
        for slot in PLACES
    ],
)
def test_arguments_called_as_what_a_kernel_has_in_shared_memory(slot: str, word: str) -> None:
    """`acc_full` is the accumulators' ring, and would be that of an argument `acc`."""
    check_word("gemm", slot, word, "sm_100a")


def test_names_that_are_free_are_kept() -> None:
    text = (modules(spec("gemm", kernel="mlp", left="x", right="w", value="h", row="gate"), "sm_100a") or {})[""]
    assert "def mlp(" in text
    for name in ("x_codes", "w_scales", "h = ", "gate = load_f32(global_address(gate_ptr"):
        assert name in text


def test_the_names_of_one_argument_are_not_those_of_another() -> None:
    text = (modules(spec("gemm", left="a", row="a_scale", column="a_scale_arg"), "sm_100a") or {})[""]
    plain = (modules(spec("gemm"), "sm_100a") or {})[""]
    assert len(set(_parameters(text))) == len(_parameters(plain))
    assert "a_scale_ptr: cutlass.Pointer,  # f32, device_scalar" in text


def _parameters(text: str) -> list[str]:
    kernel = max((n for n in ast.parse(text).body if isinstance(n, ast.FunctionDef)), key=lambda n: len(n.args.args))
    return [arg.arg for arg in kernel.args.args]


def test_a_message_has_the_users_names() -> None:
    """What the passes say of an argument is said by its name, whatever it is called in the file."""
    from fp4cc.diagnostics import DiagnosticError
    from fp4cc.passes import lower
    from fp4cc.sema import analyze
    from fp4cc.source import Source

    text = "kernel k(L, M, N, K) { in tile : nvfp4[M, K]; in b : nvfp4[N, K]; in m : f32[L, M, N]; out y : f32[M, N]\n"
    (kernel,) = analyze(Source("s", text + "y = sum(m, over = L) + tile @ b.T }")).raise_errors().kernels
    with pytest.raises(DiagnosticError) as problem:
        lower(kernel, "sm_100a")
    assert all(part.isascii() for d in problem.value.diagnostics for part in (d.title, *d.notes, *d.help))
    text = "kernel k(M, N) { in tile : f32[M, N]; out m : f32[M]\nm = sum(tile, over = N) }"
    (kernel,) = analyze(Source("s", text)).kernels
    plan = lower(kernel, "sm_100a")
    assert [output.arg for output in plan.epilogue.outputs] == ["m"]
    assert any("`m` has values" in str(constraint.reason) for constraint in plan.constraints)


def test_scopes_are_those_of_python() -> None:
    for target in TARGETS:
        for name in SPECS:
            for text in (modules(spec(name), target) or {}).values():
                tree = ast.parse(text)
                functions = [n.name for n in tree.body if isinstance(n, ast.FunctionDef | ast.ClassDef)]
                known = {MODULE: "", **dict(enumerate(functions, 1))}
                found = {(known[s], n) for n, where in scopes(text).items() for s in where}
                number = dict(enumerate((getattr(s, "name", "") for s in tree.body), 1))
                for scope, word in identifiers(tree):
                    assert (number.get(scope, ""), word.split(".")[0]) in found or ("", word) in found, word


def test_a_name_is_varied_until_it_is_free() -> None:
    def make(names: Names) -> str:
        first, second, third = names.new("h"), names.new("h"), names.new("range")
        return f"tile = 1\n\n\ndef f(h2):\n    {first} = {second} = {third} = {names.given(0)}_ptr = tile_ptr\n"

    assert named(("tile",), make) == "tile = 1\n\n\ndef f(h2):\n    h = h3 = range2 = tile_arg_ptr = tile_ptr\n"


@pytest.mark.parametrize(
    "wanted", ["_", "__", "__x", "_1", "__0x", "_9z_", "h_1", "a_", "x__2", "self", "if", "len", "tile", "tile_"]
)
@pytest.mark.parametrize("suffix", ["", "_arg", "_kernel"])
def test_every_name_has_a_variation_that_is_free(wanted: str, suffix: str) -> None:
    def make(names: Names) -> str:
        made = [names.new(wanted, suffix) for _ in range(4)]
        return "def f():\n    " + " = ".join([*made, "tile", "tile_", "tile_2"]) + "\n"

    *found, _, _, _ = named((), make).split("\n")[1].strip().split(" = ")
    assert len({*found, "tile", "tile_", "tile_2", "if", "len", "self"}) == 10
    assert all(name.isidentifier() for name in found)


def test_marks() -> None:
    text = f"{mark(0, 1)}_ptr {mark(7, 4)}{mark(0, 2)}"
    assert marks_in(text) == [0, 7, 0]
    assert spelled(text, lambda number: f"n{number}") == "n0_ptr n7n0"
    tree = {"k": (mark(1, 3), 4, frozenset((mark(2, 1),)))}
    assert spelled_in(tree, str) == {"k": ("1", 4, frozenset(("2",)))}
    assert len(f"{mark(3, 5)}_smem") == len("names_smem")
    with pytest.raises(ValueError, match="at most"):
        mark(100_000, 1)
