"""A spec to artifacts, through the cache.

Two levels of cache. The upper one maps the spec's text, the files it uses and the options to finished artifacts: a
warm build reads a few files and imports neither parser nor DSL. The lower one maps one emitted kernel file to its PTX
and cubin: an edit that leaves the emitted text alone (a renamed format) compiles nothing.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, nullcontext, suppress
from dataclasses import dataclass, field
from queue import Empty, SimpleQueue
from threading import Event
from typing import TYPE_CHECKING, cast

from fp4cc.backend.process import BackendError, Compiled, Worker, borrow_worker
from fp4cc.backend.toolchain import toolchain
from fp4cc.cache import Entry, Store, compiler_fingerprint, digest
from fp4cc.diagnostics import Diagnostic, DiagnosticError, error
from fp4cc.driver.request import NO_KERNEL, Request, RequestError
from fp4cc.driver.spec import used_files, used_hashes

if TYPE_CHECKING:
    from fp4cc.cache.keys import Json
    from fp4cc.ir.lowered import LoweredKernel

#: Lines of the child's output that a diagnostic shows.
_SHOWN_TAIL = 12

Step = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class BuiltKernel:
    """One kernel's files by base name (NAME.json, NAME.cubin, NAME.ptx) and the emitted Python beside them.

    `plans`: the stem of each plan's files, in the order in which the runtime tries them, and when it uses it.
    """

    name: str
    files: Mapping[str, bytes] = field(repr=False)
    python: Mapping[str, bytes] = field(repr=False)
    plans: Mapping[str, str] = field(default_factory=dict[str, str], repr=False)


@dataclass(frozen=True, slots=True)
class Built:
    """The kernels of a spec in source order, the warnings on the way, and whether all of it came from the cache."""

    kernels: tuple[BuiltKernel, ...]
    warnings: tuple[Diagnostic, ...]
    cached: bool


def _silent(what: str) -> None:
    """No progress report."""


def build(request: Request, *, store: Store | None = None, use_cache: bool = True, step: Step = _silent) -> Built:
    """Build the artifacts of a spec.

    Args:
        store: the cache (default: the user's).
        use_cache: False builds everything anew and stores nothing.
        step: told what is being done, for a progress line.

    Raises:
        DiagnosticError: the spec is wrong (FP1xxx to FP5xxx), or an emitted kernel did not compile (FP9002).
    """
    cache = (store or Store()) if use_cache else None
    key = request_key(request) if cache is not None else None
    if cache is None or key is None:
        return _build(request, cache, step)
    if (found := cache.get(key)) is not None:
        return _from_entry(found)
    # The worker imports the DSL while this process parses; it is made before the lock so as not to serialize that.
    with ExitStack() as stack:
        worker = stack.enter_context(borrow_worker())
        stack.enter_context(_locked(cache, key))
        if (found := cache.get(key)) is not None:
            return _from_entry(found)
        built = _build(request, cache, step, worker)
        if not built.warnings:  # a cached build could not repeat them
            put_entry(cache, key, *_to_entry(built))
    return built


def request_key(request: Request) -> str | None:
    """The upper cache key; None where a used file cannot be read (the front end will say so)."""
    used = used_files(request.spec)
    if used is None:
        return None
    return digest(
        {
            "fp4cc": compiler_fingerprint(),
            "toolchain": cast("Json", toolchain()),
            "target": request.target,
            "dims": dict(sorted(request.dims.items())),
            "kernel": request.kernel,
            "plans": request.plans,
            "many": request.many,
            "only": None if request.only is None else {name: list(plans) for name, plans in request.only.items()},
            "name": request.spec.base_name,
            "text": request.spec.text,
            "used": {name: hashlib.sha256(data).hexdigest() for name, data in used.items()},
        }
    )


def _build(request: Request, cache: Store | None, step: Step, worker: Worker | None = None) -> Built:
    from fp4cc.driver.stages import lower_kernels, only_plans, texts_of

    step("checking and lowering the spec")
    sources = used_hashes(request.spec)
    lowered, warnings = lower_kernels(request)
    if not lowered:
        raise RequestError(NO_KERNEL)
    lowered = tuple(only_plans(kernel, request) for kernel in lowered)
    texts = [texts_of(kernel) for kernel in lowered]
    _refuse_one_name_for_two(lowered, texts)
    step("compiling with the CuTe DSL")
    jobs = {text: None for modules in texts for text in modules.values()}
    compiled = _compile_all(list(jobs), request.target, cache, worker)
    kernels = [_built(kernel, made, compiled, sources) for kernel, made in zip(lowered, texts, strict=True)]
    return Built(tuple(kernels), warnings, cached=False)


def _built(
    kernel: LoweredKernel, modules: Mapping[str, str], compiled: Mapping[str, Compiled], sources: Mapping[str, str]
) -> BuiltKernel:
    from fp4cc.driver.stages import manifest_text, plan_uses

    files: dict[str, bytes] = {}
    for name, text in modules.items():
        files[f"{name}.cubin"] = compiled[text].cubin
        files[f"{name}.ptx"] = compiled[text].ptx.encode("ascii")
    hashes = {name: hashlib.sha256(data).hexdigest() for name, data in files.items()}
    files[f"{kernel.name}.json"] = manifest_text(kernel, hashes, sources).encode()
    python = {f"{name}.py": text.encode() for name, text in modules.items()}
    return BuiltKernel(kernel.name, files, python, plan_uses(kernel))


def build_lowered(kernels: Sequence[LoweredKernel], target: str, cache: Store | None) -> list[BuiltKernel]:
    """Build kernels that were lowered one by one, each for itself; they may be versions of one kernel, of one name.

    Raises DiagnosticError (FP9002) where one did not compile.
    """
    from fp4cc.driver.stages import texts_of

    texts = [texts_of(kernel) for kernel in kernels]
    jobs = {text: None for modules in texts for text in modules.values()}
    compiled = _compile_all(list(jobs), target, cache, None)
    return [_built(kernel, made, compiled, {}) for kernel, made in zip(kernels, texts, strict=True)]


def _refuse_one_name_for_two(kernels: Sequence[LoweredKernel], texts: Sequence[Mapping[str, str]]) -> None:
    """A second plan of kernel `a` is called `a_v1`, one for lists `a_many`; so might be another kernel of the file."""
    owners: dict[str, LoweredKernel] = {}
    for kernel, modules in zip(kernels, texts, strict=True):
        for stem in modules:
            other = owners.setdefault(stem.lower(), kernel)
            if other is not kernel:
                title = f"the kernels `{other.name}` and `{kernel.name}` would both write `{stem}.cubin`"
                places = [(other.kernel.span, "the other one")]
                help = "rename one, or build one at a time with --kernel"
                raise DiagnosticError([error("FP2033", title, kernel.kernel.span, also=places, help=help)])


def _compile_all(texts: list[str], arch: str, cache: Store | None, worker: Worker | None) -> dict[str, Compiled]:
    """Compile each text, from the cache where it is there. The first one that is not goes to the waiting worker."""
    found: dict[str, Compiled] = {}
    missing: list[tuple[str, str]] = []
    for text in texts:
        key = digest({"toolchain": cast("Json", toolchain()), "arch": arch, "kernel": text})
        entry = cache.get(key) if cache is not None else None
        if entry is None:
            missing.append((key, text))
        else:
            found[text] = Compiled(entry.files["kernel.ptx"].decode("ascii"), entry.files["kernel.cubin"])
    if not missing:
        return found

    results = _compile_each([text for _, text in missing], arch, worker)
    for (key, text), result in zip(missing, results, strict=True):
        found[text] = result
        if cache is not None:
            put_entry(cache, key, {"kernel.ptx": result.ptx.encode("ascii"), "kernel.cubin": result.cubin}, {})
    return found


def _compile_each(texts: list[str], arch: str, worker: Worker | None) -> list[Compiled]:
    """Compile texts side by side: a worker a core, each of which imports the DSL once, the first the waiting one.

    Whatever ends this early, Ctrl-C too, ends the processes first.
    """
    todo: SimpleQueue[int] = SimpleQueue()
    for index in range(len(texts)):
        todo.put(index)
    results: dict[int, Compiled] = {}
    running: set[Worker] = set()
    stopped = Event()

    def serve(lane: int) -> None:
        ready = nullcontext(worker) if lane == 0 and worker is not None else borrow_worker()
        with ready as process:
            running.add(process)
            if stopped.is_set():
                process.kill()
            try:
                with suppress(Empty):
                    while not stopped.is_set():
                        index = todo.get_nowait()
                        results[index] = process.compile(texts[index], arch)
            except BackendError:
                stopped.set()  # the others end with what they are at
                raise

    lanes = min(len(texts), os.cpu_count() or 1)
    with ThreadPoolExecutor(max_workers=lanes) as pool:
        try:
            for _ in pool.map(serve, range(lanes)):
                pass
        except BackendError as fault:
            raise DiagnosticError([backend_diagnostic(fault)]) from fault
        except BaseException:
            stopped.set()
            pool.shutdown(wait=False, cancel_futures=True)
            for process in tuple(running):
                process.kill()
            raise
    return [results[index] for index in range(len(texts))]


def backend_diagnostic(fault: BackendError) -> Diagnostic:
    """A failure of the DSL on text that we emitted: an internal error with the end of what it printed."""
    tail = fault.tail.splitlines()[-_SHOWN_TAIL:]
    return error(
        "FP9002",
        fault.reason,
        None,
        notes=["it printed last:\n" + "\n".join(tail)] if tail else [],
        help="this is a bug in fp4cc: please report it with the spec and what `fp4cc emit SPEC --stage python` prints",
    )


def _to_entry(built: Built) -> tuple[dict[str, bytes], dict[str, Json]]:
    files = {name: data for kernel in built.kernels for name, data in (*kernel.files.items(), *kernel.python.items())}
    listing: list[Json] = [
        {
            "name": kernel.name,
            "files": list(kernel.files),
            "python": list(kernel.python),
            "plans": [[stem, used] for stem, used in kernel.plans.items()],
        }
        for kernel in built.kernels
    ]
    return files, {"kernels": listing}


def _from_entry(entry: Entry) -> Built:
    listing = cast("list[dict[str, object]]", entry.info["kernels"])
    return Built(
        tuple(
            BuiltKernel(
                cast("str", kernel["name"]),
                {name: entry.files[name] for name in cast("list[str]", kernel["files"])},
                {name: entry.files[name] for name in cast("list[str]", kernel["python"])},
                dict(cast("list[tuple[str, str]]", kernel["plans"])),
            )
            for kernel in listing
        ),
        (),
        cached=True,
    )


def _locked(cache: Store, key: str) -> ExitStack:
    """The key's lock; without one (a read-only cache folder) work may be done twice, which is all that happens."""
    stack = ExitStack()
    try:
        stack.enter_context(cache.lock(key))
    except OSError:
        stack.close()
    return stack


def put_entry(cache: Store, key: str, files: Mapping[str, bytes], info: Mapping[str, Json]) -> None:
    """Store an entry if the folder can be written; a cache that cannot be kept is not a failed build."""
    try:
        cache.put(key, files, info)
    except OSError as fault:
        import warnings

        warnings.warn(f"fp4cc: the cache at {cache.root} cannot be written: {fault}", stacklevel=2)
