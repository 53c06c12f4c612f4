"""The manifest, NAME.json: all a loader needs beside the cubin, as frozen dataclasses with strict parse and dump.

The compiler builds these classes and calls `dump`; the runtime calls `parse`. A key that is missing, unknown or of the
wrong type is an ArtifactError that names its path. Sizes are expressions over the dims (`fp4rt.sizes`), never code.

A buffer is named by its argument: "c" for a plain tensor or a device scalar, "a.codes", "a.scales" and
"a.tensor_scale" for a quantized one, ".workspace" for the workspace.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from fp4rt import sizes
from fp4rt.errors import ArtifactError
from fp4rt.limits import MAX_ENTRIES, MAX_LAUNCHES, MAX_NESTING, MAX_VARIANTS
from fp4rt.plan import (
    MAP_DTYPES,
    PARAM_KINDS,
    PLAN_FIELDS,
    WORKSPACE,
    Grid,
    Init,
    Launch,
    Param,
    PersistentGrid,
    Plan,
    TensorMap,
    dump_plan,
    parse_plan,
    place,
)
from fp4rt.strict import Expr, Json, Node, dump_expr
from fp4rt.typed import Constraint, TypedKernel, dump_constraint, dump_kernel, parse_constraint, parse_kernel
from fp4rt.wellformed import check_kernel

__all__ = [
    "MAP_DTYPES",
    "PARAM_KINDS",
    "SCHEMA",
    "Grid",
    "Init",
    "Launch",
    "Manifest",
    "Param",
    "PersistentGrid",
    "Plan",
    "TensorMap",
    "Variant",
    "buffer_names",
    "dump",
    "dumps",
    "loads",
    "parse",
    "place",
]

SCHEMA = 1

_SHA256 = re.compile("[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class Variant:
    """Another plan, used where `when` holds (the first that does wins), with its own derived constraints."""

    name: str
    when: Expr
    plan: Plan
    constraints: tuple[Constraint, ...] = ()


@dataclass(frozen=True, slots=True)
class Manifest:
    """One compiled kernel. `plan` applies where no variant does; a plan without launches runs on the reference only.

    `constraints` hold at every call; `plan_constraints` only where `plan` applies. `files` maps base names to sha256.
    `sources` does the same for the files that the spec uses (`use "x.fp4"`), by their paths from its folder.
    """

    name: str
    target: str
    kernel: TypedKernel
    plan: Plan
    constraints: tuple[Constraint, ...] = ()
    plan_constraints: tuple[Constraint, ...] = ()
    variants: tuple[Variant, ...] = ()
    files: Mapping[str, str] = field(default_factory=dict[str, str])
    toolchain: Mapping[str, str] = field(default_factory=dict[str, str])
    sources: Mapping[str, str] = field(default_factory=dict[str, str])

    def __repr__(self) -> str:
        launches = sum(len(plan.launches) for plan in (self.plan, *(v.plan for v in self.variants)))
        return f"<fp4rt manifest of {self.kernel.heading} for {self.target}, {launches} launch(es)>"

    def launches(self) -> tuple[Launch, ...]:
        """Those of all plans."""
        return tuple(launch for plan in (self.plan, *(v.plan for v in self.variants)) for launch in plan.launches)

    def modules(self) -> tuple[str, ...]:
        """The stems of the cubin and PTX files the launches use, each once."""
        return tuple(dict.fromkeys(launch.module or self.name for launch in self.launches()))


def loads(text: str) -> Manifest:
    """Parse a manifest; ArtifactError FP6002 (or FP6003 for the schema version) on anything out of place."""
    try:
        value: Json = json.loads(text, parse_constant=_reject_constant, object_pairs_hook=_unique)
    except (ValueError, RecursionError) as error:
        raise ArtifactError(f"manifest is not JSON: {error}") from error
    return parse(value)


def dumps(manifest: Manifest) -> str:
    """The manifest's text: deterministic, keys in schema order, ends with a newline.

    Lists without mappings, as size expressions are, stand on one line.
    """
    return "".join(_lines(dump(manifest), "")) + "\n"


def _lines(value: Json, pad: str) -> Iterator[str]:
    inner = f"{pad} "
    if isinstance(value, dict) and value:
        for number, (key, child) in enumerate(value.items()):
            yield f"{',' if number else '{'}\n{inner}{json.dumps(key, ensure_ascii=False)}: "
            yield from _lines(child, inner)
        yield f"\n{pad}}}"
    elif isinstance(value, list) and any(isinstance(child, dict) for child in value):
        for number, child in enumerate(value):
            yield f"{',' if number else '['}\n{inner}"
            yield from _lines(child, inner)
        yield f"\n{pad}]"
    else:
        yield json.dumps(value, ensure_ascii=False, allow_nan=False)


def parse(value: Json) -> Manifest:
    """Build a Manifest from what `json.loads` returned."""
    node = Node(value)
    _check_size(value)
    if isinstance(value, dict) and value.get("schema") != SCHEMA:
        raise ArtifactError(
            f"manifest has schema {value.get('schema')!r:.60}; this runtime reads {SCHEMA}",
            code="FP6003",
            help="install the fp4rt that matches the compiler, or compile again",
        )
    f = node.fields(
        ("schema", "name", "target", "toolchain", "files", "kernel", "constraints", *PLAN_FIELDS),
        ("plan_constraints", "variants", "sources"),
    )
    manifest = Manifest(
        name=f["name"].string(),
        target=f["target"].string(),
        kernel=parse_kernel(f["kernel"]),
        plan=parse_plan(f),
        constraints=_constraints(f, "constraints"),
        plan_constraints=_constraints(f, "plan_constraints"),
        variants=tuple(_parse_variant(n) for n in f["variants"].items()) if "variants" in f else (),
        files={key: n.string() for key, n in f["files"].members()},
        toolchain={key: n.string() for key, n in f["toolchain"].members()},
        sources={key: _hash(key, n.string()) for key, n in f["sources"].members()} if "sources" in f else {},
    )
    check_kernel(manifest.kernel)
    _check_references(manifest)
    _check_plans(manifest)
    return manifest


def dump(manifest: Manifest) -> dict[str, Json]:
    """The manifest as JSON values."""
    return {
        "schema": SCHEMA,
        "name": manifest.name,
        "target": manifest.target,
        "toolchain": dict(sorted(manifest.toolchain.items())),
        "files": dict(sorted(manifest.files.items())),
        **({"sources": dict(sorted(manifest.sources.items()))} if manifest.sources else {}),
        "kernel": dump_kernel(manifest.kernel),
        "constraints": [dump_constraint(c) for c in manifest.constraints],
        "plan_constraints": [dump_constraint(c) for c in manifest.plan_constraints],
        **dump_plan(manifest.plan),
        "variants": [
            {
                "name": v.name,
                "when": dump_expr(v.when),
                "constraints": [dump_constraint(c) for c in v.constraints],
                **dump_plan(v.plan),
            }
            for v in manifest.variants
        ],
    }


def _constraints(f: Mapping[str, Node], key: str) -> tuple[Constraint, ...]:
    return tuple(parse_constraint(n) for n in f[key].items()) if key in f else ()


def _hash(name: str, text: str) -> str:
    if not _SHA256.fullmatch(text):
        raise ArtifactError(f"manifest: sources: {text!r:.80} is no SHA-256 of {name!r:.80}")
    return text


def _parse_variant(node: Node) -> Variant:
    f = node.fields(("name", "when", *PLAN_FIELDS), ("constraints",))
    return Variant(f["name"].string(), f["when"].expr(), parse_plan(f), _constraints(f, "constraints"))


def buffer_names(kernel: TypedKernel) -> frozenset[str]:
    """The buffers a plan may name: each tensor argument's parts, and the workspace."""
    names = {WORKSPACE}
    for arg in kernel.args:
        if arg.format is not None:
            names |= {f"{arg.name}.codes"}
            if arg.format.scale is not None:
                names |= {f"{arg.name}.scales"}
            if arg.format.tensor_scale is not None:
                names |= {f"{arg.name}.tensor_scale"}
        elif arg.direction != "param":
            names.add(arg.name)
    return frozenset(names)


def _check_references(manifest: Manifest) -> None:
    """Every source named by a plan exists; the kernel is unusable otherwise."""
    buffers = buffer_names(manifest.kernel)
    scalars = {a.name for a in manifest.kernel.args if a.direction == "param"}
    for where, plan in (("", manifest.plan), *((f"variants[{i}].", v.plan) for i, v in enumerate(manifest.variants))):
        maps = {m.name for m in plan.tensor_maps}
        for kind, known, named in (
            ("init", buffers, [i.source for i in plan.init]),
            ("tensor_maps", buffers, [m.source for m in plan.tensor_maps]),
            ("launches", buffers, [p.source for ln in plan.launches for p in ln.params if p.kind == "pointer"]),
            ("launches", maps, [p.source for ln in plan.launches for p in ln.params if p.kind == "tensor_map"]),
            ("launches", scalars, [p.source for ln in plan.launches for p in ln.params if p.kind == "f32"]),
        ):
            for name in named:
                if name not in known:
                    options = ", ".join(sorted(known)) or "none"
                    raise ArtifactError(f"manifest: {where}{kind}: unknown source {name!r}; known: {options}")


def _check_plans(manifest: Manifest) -> None:
    """The numbers of plans and launches, and that every size of a plan is one of the kernel's dims."""
    if len(manifest.variants) > MAX_VARIANTS:
        raise _over(f"{len(manifest.variants)} variants", MAX_VARIANTS)
    dims = {dim.name for dim in manifest.kernel.dims}
    conditions = [*manifest.constraints, *manifest.plan_constraints]
    conditions += [c for v in manifest.variants for c in v.constraints]
    exprs = [c.expr for c in conditions] + [v.when for v in manifest.variants]
    for plan in (manifest.plan, *(v.plan for v in manifest.variants)):
        if len(plan.launches) > MAX_LAUNCHES:
            raise _over(f"a plan of {len(plan.launches)} launches", MAX_LAUNCHES)
        names = [m.name for m in plan.tensor_maps]
        if len(set(names)) < len(names):
            raise ArtifactError(f"manifest: tensor_maps: two have one name: {', '.join(names)}")
        exprs += _sizes_of(plan)
    for name in (name for expr in exprs for name in sizes.names(expr)):
        if name not in dims:
            raise ArtifactError(f"manifest: unknown size {name!r}; dims: {', '.join(sorted(dims)) or 'none'}")


def _sizes_of(plan: Plan) -> list[Expr]:
    """Every size expression of a plan."""
    out: list[Expr] = [plan.workspace]
    for init in plan.init:
        out += [init.count, init.byte_offset]
    for m in plan.tensor_maps:
        out += [*m.dims, *m.strides, m.byte_offset, 1 if m.when is None else m.when]
    for launch in plan.launches:
        out += [launch.grid.tiles] if isinstance(launch.grid, PersistentGrid) else launch.grid
        out += [p.source if p.kind in ("i32", "i64") else p.byte_offset for p in launch.params]
    return out


def _check_size(value: Json, depth: int = 0) -> None:
    """Nesting and lengths: what walks the manifest may then recurse, and ends soon."""
    if depth > MAX_NESTING:
        raise ArtifactError(f"manifest: nested deeper than {MAX_NESTING}", code="FP6010")
    if isinstance(value, dict | list):
        if len(value) > MAX_ENTRIES:
            raise _over(f"{len(value)} entries", MAX_ENTRIES)
        for child in value.values() if isinstance(value, dict) else value:
            _check_size(child, depth + 1)


def _over(what: str, limit: int) -> ArtifactError:
    return ArtifactError(
        f"manifest: {what}: at most {limit} are read", code="FP6010", help="fp4cc writes no such manifest"
    )


def _reject_constant(text: str) -> Json:
    raise ValueError(f"{text} is not JSON")


def _unique(pairs: list[tuple[str, Json]]) -> dict[str, Json]:
    out: dict[str, Json] = {}
    for key, value in pairs:
        if key in out:
            raise ValueError(f"key {key!r} occurs twice")
        out[key] = value
    return out
