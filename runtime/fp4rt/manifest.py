"""The manifest, NAME.json: all a loader needs beside the cubin, as frozen dataclasses with strict parse and dump.

The compiler builds these classes and calls `dump`; the runtime calls `parse`. A key that is missing, unknown or of the
wrong type is an ArtifactError that names its path. Sizes are expressions over the dims (`fp4rt.sizes`), never code.

A buffer is named by its argument: "c" for a plain tensor or a device scalar, "a.codes", "a.scales" and
"a.tensor_scale" for a quantized one, "a.prepared" for what is made once of one, ".workspace" for the workspace.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from fp4rt import sizes
from fp4rt.derived import Shared, dump_shared, parse_shared
from fp4rt.errors import ArtifactError
from fp4rt.limits import MAX_ENTRIES, MAX_LAUNCHES, MAX_NESTING, MAX_VARIANTS
from fp4rt.plan import (
    MAP_DTYPES,
    PARAM_KINDS,
    PLAN_FIELDS,
    PLAN_OPTIONS,
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
    prepared_buffer,
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
    "Prepared",
    "TensorMap",
    "Variant",
    "buffer_names",
    "dump",
    "dump_prepared",
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
class Prepared:
    """What is made once of an argument that does not change, and the plans that read it.

    `plan` reads the argument's buffers and fills the buffer "a.prepared" of `bytes`; it depends on the dims of its axes
    alone. At byte `unfit` that has a u32: rows that could not be made. Where it is 0, a call on the prepared argument
    takes the first of the `variants` whose `when` holds, before all other plans.
    """

    arg: str
    bytes: Expr
    unfit: Expr
    plan: Plan
    variants: tuple[Variant, ...]


@dataclass(frozen=True, slots=True)
class Manifest:
    """One compiled kernel. `plan` applies where no variant does; a plan without launches runs on the reference only.

    `constraints` hold at every call; `plan_constraints` only where `plan` applies. `shared` has sizes with names, for
    expressions of plans and conditions of variants. `files` maps base names to sha256, and so does `sources` the files
    that the spec uses (`use "x.fp4"`), by their paths from its folder.
    """

    name: str
    target: str
    kernel: TypedKernel
    plan: Plan
    constraints: tuple[Constraint, ...] = ()
    plan_constraints: tuple[Constraint, ...] = ()
    variants: tuple[Variant, ...] = ()
    prepared: tuple[Prepared, ...] = ()
    shared: tuple[Shared, ...] = ()
    files: Mapping[str, str] = field(default_factory=dict[str, str])
    toolchain: Mapping[str, str] = field(default_factory=dict[str, str])
    sources: Mapping[str, str] = field(default_factory=dict[str, str])

    def __repr__(self) -> str:
        return f"<fp4rt manifest of {self.kernel.heading} for {self.target}, {len(self.launches())} launch(es)>"

    def launches(self) -> tuple[Launch, ...]:
        """Those of all plans."""
        return tuple(launch for plan in self.plans().values() for launch in plan.launches)

    def modules(self) -> tuple[str, ...]:
        """The stems of the cubin and PTX files the launches use, each once; those for lists of problems come last."""
        own = [launch.module or self.name for launch in self.launches()]
        return tuple(dict.fromkeys(own + [launch.many.module for launch in self.launches() if launch.many is not None]))

    def plans(self) -> dict[str, Plan]:
        """Every plan by the name that a resolved one has: that of its variant, "" for the manifest's own plan."""
        prepared = {making(each.arg): each.plan for each in self.prepared}
        variants = (*self.variants, *(v for each in self.prepared for v in each.variants))
        return {"": self.plan, **{v.name: v.plan for v in variants}, **prepared}

    def prepared_for(self, arg: str) -> Prepared | None:
        """What is made once of an argument, if anything is."""
        return next((each for each in self.prepared if each.arg == arg), None)


def making(arg: str) -> str:
    """The name of the plan that makes what is made once of an argument."""
    return f".prepare {arg}"


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
        ("plan_constraints", "variants", "prepared", "sources", "shared", *PLAN_OPTIONS),
    )
    kernel = parse_kernel(f["kernel"])
    manifest = Manifest(
        name=f["name"].string(),
        target=f["target"].string(),
        kernel=kernel,
        plan=parse_plan(f),
        constraints=_constraints(f, "constraints"),
        plan_constraints=_constraints(f, "plan_constraints"),
        variants=tuple(_parse_variant(n) for n in f["variants"].items()) if "variants" in f else (),
        prepared=tuple(_parse_prepared(n) for n in f["prepared"].items()) if "prepared" in f else (),
        shared=parse_shared(f["shared"], (d.name for d in kernel.dims)) if "shared" in f else (),
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
        **({"shared": dump_shared(manifest.shared)} if manifest.shared else {}),
        **dump_plan(manifest.plan),
        "variants": [_dump_variant(v) for v in manifest.variants],
        **({"prepared": [dump_prepared(each) for each in manifest.prepared]} if manifest.prepared else {}),
    }


def _dump_variant(v: Variant) -> dict[str, Json]:
    return {
        "name": v.name,
        "when": dump_expr(v.when),
        "constraints": [dump_constraint(c) for c in v.constraints],
        **dump_plan(v.plan),
    }


def dump_prepared(each: Prepared) -> dict[str, Json]:
    """What is made once, as JSON values."""
    return {
        "arg": each.arg,
        "bytes": dump_expr(each.bytes),
        "unfit": dump_expr(each.unfit),
        **dump_plan(each.plan),
        "variants": [_dump_variant(v) for v in each.variants],
    }


def _parse_prepared(node: Node) -> Prepared:
    f = node.fields(("arg", "bytes", "unfit", *PLAN_FIELDS, "variants"), PLAN_OPTIONS)
    variants = tuple(_parse_variant(n) for n in f["variants"].items())
    return Prepared(f["arg"].string(), f["bytes"].expr(), f["unfit"].expr(), parse_plan(f), variants)


def _constraints(f: Mapping[str, Node], key: str) -> tuple[Constraint, ...]:
    return tuple(parse_constraint(n) for n in f[key].items()) if key in f else ()


def _hash(name: str, text: str) -> str:
    if not _SHA256.fullmatch(text):
        raise ArtifactError(f"manifest: sources: {text!r:.80} is no SHA-256 of {name!r:.80}")
    return text


def _parse_variant(node: Node) -> Variant:
    f = node.fields(("name", "when", *PLAN_FIELDS), ("constraints", *PLAN_OPTIONS))
    return Variant(f["name"].string(), f["when"].expr(), parse_plan(f), _constraints(f, "constraints"))


def buffer_names(kernel: TypedKernel, prepared: Sequence[str] = ()) -> frozenset[str]:
    """The buffers a plan may name: each tensor argument's parts, the workspace, and what prepared arguments have."""
    names = {WORKSPACE, *map(prepared_buffer, prepared)}
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
    _check_prepared(manifest)
    scalars = {a.name for a in manifest.kernel.args if a.direction == "param"}
    for where, plan, prepared in _places(manifest):
        buffers = buffer_names(manifest.kernel, prepared)
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


def _places(manifest: Manifest) -> Iterator[tuple[str, Plan, tuple[str, ...]]]:
    """Each plan with its place in the manifest, and the arguments that are prepared where it is used."""
    yield "", manifest.plan, ()
    for i, v in enumerate(manifest.variants):
        yield f"variants[{i}].", v.plan, ()
    for i, each in enumerate(manifest.prepared):
        yield f"prepared[{i}].", each.plan, (each.arg,)
        for j, v in enumerate(each.variants):
            yield f"prepared[{i}].variants[{j}].", v.plan, (each.arg,)


def _check_prepared(manifest: Manifest) -> None:
    """What is made once is made of inputs, one way for each, by the sizes of their axes and nothing of the call."""
    known = {arg.name: arg for arg in manifest.kernel.args if arg.direction == "in" and arg.format is not None}
    if len({each.arg for each in manifest.prepared}) < len(manifest.prepared):
        raise ArtifactError("manifest: prepared: two are of one argument")
    names = [v.name for v in (*manifest.variants, *(v for each in manifest.prepared for v in each.variants))]
    if manifest.prepared and len({*names}) < len(names):
        raise ArtifactError(f"manifest: variants: two have one name: {', '.join(names)}")
    for i, each in enumerate(manifest.prepared):
        where, arg = f"manifest: prepared[{i}]", known.get(each.arg)
        if arg is None:
            raise ArtifactError(f"{where}: {each.arg!r} is no quantized input; those are {', '.join(known) or 'none'}")
        own = {*buffer_names(manifest.kernel, (each.arg,))} & {f"{each.arg}.codes", f"{each.arg}.scales"}
        used = {i.source for i in each.plan.init} | {m.source for m in each.plan.tensor_maps}
        used |= {str(p.source) for ln in each.plan.launches for p in ln.params if p.kind in ("pointer", "f32")}
        if other := sorted(used - own - {prepared_buffer(each.arg)}) or each.plan.workspace != 0:
            raise ArtifactError(f"{where}: it takes {other} beside {each.arg}" if other is not True
                                else f"{where}: it takes a workspace")  # fmt: skip
        dims = {name for axis in arg.axes for name in sizes.names(axis.extent)}
        dims |= {dim.name for dim in manifest.kernel.dims if dim.value is not None}
        for name in (name for expr in (each.bytes, each.unfit, *_sizes_of(each.plan)) for name in sizes.names(expr)):
            if name not in dims:
                raise ArtifactError(f"{where}: {name!r} is not a size of {each.arg}")


def _check_plans(manifest: Manifest) -> None:
    """The numbers of plans and launches, and that every size of a plan is one of the kernel's dims."""
    variants = (*manifest.variants, *(v for each in manifest.prepared for v in each.variants))
    if len(variants) > MAX_VARIANTS:
        raise _over(f"{len(variants)} variants", MAX_VARIANTS)
    dims = {dim.name for dim in manifest.kernel.dims}
    conditions = [*manifest.constraints, *manifest.plan_constraints]
    conditions += [c for v in variants for c in v.constraints]
    exprs = [v.when for v in variants]
    for _, plan, _ in _places(manifest):
        if len(plan.launches) > MAX_LAUNCHES:
            raise _over(f"a plan of {len(plan.launches)} launches", MAX_LAUNCHES)
        names = [m.name for m in plan.tensor_maps]
        if len(set(names)) < len(names):
            raise ArtifactError(f"manifest: tensor_maps: two have one name: {', '.join(names)}")
        exprs += _sizes_of(plan)
    named = dims.union(*(shared.names for shared in manifest.shared))
    for among, known in (([c.expr for c in conditions], dims), (exprs, named)):
        for name in (name for expr in among for name in sizes.names(expr)):
            if name not in known:
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
        out += [launch.many.work] if launch.many is not None else []
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
