"""The parameters of a call in memory, and its launches.

A `Template` knows, for one resolved plan, where each parameter lies in a piece of memory, a `Block`. What sizes decide
is written into a block once; a call on other buffers writes their addresses, and the tensor maps get them by
cuTensorMapReplaceAddress.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from functools import reduce
from operator import or_
from typing import Any

import numpy as np

from fp4rt.cuda import driver as cuda
from fp4rt.cuda import tensormaps
from fp4rt.cuda.driver import Context, failure
from fp4rt.cuda.module import Entry, launch_config
from fp4rt.errors import ArgumentError
from fp4rt.resolve import Resolved, ResolvedLaunch, ResolvedMap, ResolvedParam

_WORD, _MAP = 8, 128
#: The alignment of a tensor map in memory (CUDA driver API, CUtensorMap).
_MAP_ALIGN = 64
_MAX_STREAMS = 64
_MAX_MAPS = 1024
#: Addresses that have each of 47 bits on in one and off in another.
_PROBES = (0x2AAA_AAAA_AAAA, 0x5555_5555_5555, 0x7FFF_FFFF_FFFF)


class Block:
    """The parameters of one call. Its memory is held for as long as the launches may be queued again."""

    __slots__ = ("at", "base", "memory", "start", "words")

    def __init__(self, memory: np.ndarray, start: int, size: int, at: list[int]) -> None:
        self.memory = memory.data
        self.start = start  # of what is used of the memory
        self.base: int = memory.__array_interface__["data"][0] + start
        self.words = memory[start : start + size].data.cast("Q")
        self.at = at  # the addresses that its tensor maps have


class Template:
    """Where everything lies in a block of a resolved plan, whose buffers come in the order of `parts`.

    the addresses of the buffers, then those of pointers with an offset; f32 params; integers; tensor maps, aligned;
    for each launch the addresses of its parameters, which is what cuLaunchKernelEx takes
    """

    def __init__(
        self,
        plan: Resolved,
        entries: Sequence[Entry],
        context: Context,
        parts: Sequence[str],
        params: Sequence[str],
        maps: dict[ResolvedMap, bytes],
    ) -> None:
        self._known_maps = maps
        self._native = cuda.native()
        self._context = context
        self._launches = [(x, entries[x.index]) for x in plan.launches if not x.empty]
        place = {name: i for i, name in enumerate(parts)}
        used = [p for x, _ in self._launches for p in x.params]
        self._shifted = list(
            dict.fromkeys((place[p.source], p.byte_offset) for p in used if p.kind == "pointer" and p.byte_offset)
        )
        self._dynamic = struct.Struct(f"<{len(parts) + len(self._shifted)}Q{len(params)}f")
        integers = list(dict.fromkeys((p.kind, p.value) for p in used if p.kind in ("i32", "i64")))
        constants = _up(self._dynamic.size, _WORD)
        first_map = _up(constants + _WORD * len(integers), _MAP_ALIGN)
        self._constants = (constants, struct.pack(f"<{len(integers)}q", *[value for _, value in integers]))
        self._maps = [(first_map + _MAP * i, place[m.source], m) for i, m in enumerate(plan.tensor_maps)]
        #: (offset in the block, buffer, offset in it) of each map that has an address.
        self._active = [(offset, part, m.byte_offset) for offset, part, m in self._maps if m.active]
        words = {
            **{("pointer", i, 0): _WORD * i for i in place.values()},
            **{("pointer", *s): _WORD * (len(parts) + i) for i, s in enumerate(self._shifted)},
            **{("f32", name): _WORD * (len(parts) + len(self._shifted)) + 4 * i for i, name in enumerate(params)},
            **{(*x, ""): constants + _WORD * i for i, x in enumerate(integers)},
            **{("tensor_map", m.name): offset for offset, _, m in self._maps},
        }
        self._tables: list[tuple[int, list[int]]] = []
        end = first_map + _MAP * len(self._maps)
        for launch, _ in self._launches:
            self._tables.append((end, [words[_key(p, place)] for p in launch.params]))
            end += _WORD * len(launch.params)
        self._size = end
        cu = cuda.driver()
        self._launch = cu.cuLaunchKernelEx
        fills = {1: cu.cuMemsetD8Async, 2: cu.cuMemsetD16Async, 4: cu.cuMemsetD32Async}
        wanted = [
            (i.kept, (fills[i.width], place[i.source], i.byte_offset, i.value, i.count)) for i in plan.init if i.count
        ]
        self._fills = [fill for _, fill in wanted]
        #: Those that memory needs once, and those that every call does: see `prepare`.
        self._once = [fill for kept, fill in wanted if kept]
        self._again = [fill for kept, fill in wanted if not kept]
        self._aligned = _alignments(self._active, [m for _, _, m in self._maps if m.active], used, place, parts)
        # Where every address is a multiple of all of these, one look at all of them together is enough.
        self._mask = max((align for _, _, align, _ in self._aligned), default=1) - 1
        self._together = all(not align & (align - 1) and not off % align for _, off, align, _ in self._aligned)
        self._encoded: list[bytes] | None = None
        #: (word of a block, buffer, offset in it) of each map's address, where it is known to be a word: see `_prove`.
        self._words: list[tuple[int, int, int]] | None = None
        self._ready: dict[int, list[tuple[Any, Any, int]]] = {}
        self._free: list[Block] = []

    def check(self, addresses: Sequence[int]) -> None:
        """ArgumentError FP6106 for a buffer that does not lie as the kernel needs it."""
        if self._together and not reduce(or_, addresses, 0) & self._mask:
            return
        for part, offset, align, error in self._aligned:
            if (addresses[part] + offset) % align:
                raise _misaligned(addresses[part], align, *error)

    def aligned(self, addresses: Sequence[int], together: int) -> bool:
        """Whether `check` says nothing. `together`: the addresses, or'ed."""
        if self._together and not together & self._mask:
            return True
        return all((addresses[part] + offset) % align == 0 for part, offset, align, _ in self._aligned)

    def block(self, addresses: Sequence[int], scalars: Sequence[float]) -> Block:
        """A block of its own for buffers at these addresses, which were checked."""
        cuda.check_fork()
        memory = np.zeros(self._size + _MAP_ALIGN, np.uint8)
        base: int = memory.__array_interface__["data"][0]
        start = -base % _MAP_ALIGN
        base += start
        block = Block(memory, start, self._size, [-1] * len(self._active))
        place, constants = self._constants  # a 32-bit integer is the lower half of its word
        block.memory[start + place : start + place + len(constants)] = constants
        with self._context.current():  # what makes and changes maps asks for a context, which a new thread may not have
            encoded = self._encoded
            if encoded is None:
                encoded = [self._encode(m, addresses[part] + m.byte_offset) for _, part, m in self._maps if m.active]
                self._encoded = encoded
            for (offset, _, _), data in zip(self._active, encoded, strict=True):
                block.memory[start + offset : start + offset + _MAP] = data
            for offset, words in self._tables:
                struct.pack_into(f"<{len(words)}Q", block.memory, start + offset, *[base + word for word in words])
            self._fill(block, addresses, scalars)
        return block

    def prepare(self, addresses: Sequence[int], stream: int | None) -> bool:
        """Fill now, once, what the kernels leave as they find it, in memory that only calls of this template use, and
        that was allocated on this stream (None: torch's current one).

        Whether it was done and `queue` may be told so: not while the stream is captured, because what a graph fills is
        not filled yet.
        """
        cu, handle = cuda.driver(), cuda.torch_stream(self._context.ordinal) if stream is None else stream
        with self._context.current():
            (result, capturing) = cu.cuStreamIsCapturing(handle)
            if result or int(capturing):
                return False
            self._queue_fills(self._once, addresses, handle)
            (result,) = cu.cuStreamSynchronize(handle)
            if result:
                raise failure(result, "cuStreamSynchronize")
        return True

    def fill(self, addresses: Sequence[int], stream: int, *, prepared: bool) -> None:
        """Queue what is filled before the launches; with `prepared`, only what each call fills."""
        self._queue_fills(self._again if prepared else self._fills, addresses, stream)

    def _queue_fills(self, fills: Sequence[tuple[Any, int, int, int, int]], addresses: Sequence[int], to: int) -> None:
        for fill, part, offset, value, count in fills:
            (result,) = fill(addresses[part] + offset, value, count, to)
            if result:
                raise failure(result, "cuMemsetAsync")

    @property
    def keeps(self) -> bool:
        """Whether there is something to `prepare`."""
        return bool(self._once)

    def _encode(self, m: ResolvedMap, address: int) -> bytes:
        """A map for some address: other sizes of a call may leave it as it is."""
        found = self._known_maps.get(m)
        if found is None:
            found = tensormaps.encode(m, address)
            if len(self._known_maps) >= _MAX_MAPS:
                self._known_maps.clear()
            self._known_maps[m] = found
        return found

    def queue(
        self,
        addresses: Sequence[int],
        scalars: Sequence[float],
        stream: object | None,
        block: Block | None = None,
        *,
        prepared: bool = False,
    ) -> None:
        """Queue a call on buffers at these addresses, which were checked; without a stream, on torch's current one.

        With a block, its parameters are those of the call, and nothing of it is written. `prepared`: so was the memory.
        """
        if cuda.forked:
            cuda.check_fork()
        context = self._context
        if stream is None:
            handle = (cuda.raw_stream or cuda.torch_stream)(context.ordinal)
        else:
            handle = cuda.stream_handle(stream)
        pushed = context.activate()
        taken: Block | None = None
        try:
            if block is None:
                block = taken = self._take(addresses, scalars)
            ready = self._ready.get(handle)
            if ready is None:
                ready = self._configure(handle)
            if self._fills:
                self._queue_fills(self._again if prepared else self._fills, addresses, handle)
            launch, base = self._launch, block.base
            for config, function, table in ready:
                (result,) = launch(config, function, base + table, 0)
                if result:
                    raise failure(result, "cuLaunchKernelEx")
        finally:
            if taken is not None:
                self._free.append(taken)
            if pushed:
                context.deactivate()

    def again(self, block: Block, addresses: Sequence[int], prepared: bool) -> Callable[[object | None], None]:
        """`queue` for a block and its buffers as a function of the stream: what a bound call does each time."""
        context, launch, base = self._context, self._launch, block.base
        ordinal, configured, fills = context.ordinal, self._ready, self._again if prepared else self._fills
        activate, torch_stream = context.activate, cuda.torch_stream

        def run(stream: object | None) -> None:
            if cuda.forked:
                cuda.check_fork()
            handle = (cuda.raw_stream or torch_stream)(ordinal) if stream is None else cuda.stream_handle(stream)
            pushed = activate()
            try:
                ready = configured.get(handle) or self._configure(handle)
                if fills:
                    self._queue_fills(fills, addresses, handle)
                for config, function, table in ready:
                    (result,) = launch(config, function, base + table, 0)
                    if result:
                        raise failure(result, "cuLaunchKernelEx")
            finally:
                if pushed:
                    context.deactivate()

        return run

    def _take(self, addresses: Sequence[int], scalars: Sequence[float]) -> Block:
        """A block that no other thread uses now: a launch copies its parameters."""
        try:
            block = self._free.pop()
        except IndexError:
            block = self.block(addresses, scalars)
            self._prove()
        else:
            self._fill(block, addresses, scalars)
        return block

    def _prove(self) -> None:
        """Find out whether a map's address is one word of it, as cuTensorMapReplaceAddress writes it.

        The format of a map is the driver's own. Where three addresses that have every bit on and off are found to
        change that word alone, to themselves, a call writes it without asking the driver.
        """
        if self._words is not None or self._encoded is None:
            return
        found: list[tuple[int, int, int]] = []
        scratch = np.zeros(_MAP + _MAP_ALIGN, np.uint8)
        start = -scratch.__array_interface__["data"][0] % _MAP_ALIGN
        at, words = scratch.__array_interface__["data"][0] + start, scratch[start : start + _MAP].view(np.uint64)
        maps = [m for _, _, m in self._maps if m.active]
        for (offset, part, shift), m, encoded in zip(self._active, maps, self._encoded, strict=True):
            place = None
            first = np.frombuffer(encoded, np.uint64)
            for address in (probe & -tensormaps.alignment(m) for probe in _PROBES):
                words[:] = first
                if self._native.replace_address(at, address):
                    return
                if place is None:
                    place = next((i for i in range(len(words)) if int(words[i]) == address), None)
                others = [i for i in range(len(words)) if i != place]
                if place is None or int(words[place]) != address or not np.array_equal(words[others], first[others]):
                    return
            assert place is not None
            found.append((offset // _WORD + place, part, shift))
        self._words = found

    def _fill(self, block: Block, addresses: Sequence[int], scalars: Sequence[float]) -> None:
        if self._shifted:
            values = [*addresses, *[addresses[part] + offset for part, offset in self._shifted]]
            self._dynamic.pack_into(block.memory, block.start, *values, *scalars)
        else:
            self._dynamic.pack_into(block.memory, block.start, *addresses, *scalars)
        if self._words is not None:
            words = block.words
            for word, part, shift in self._words:
                words[word] = addresses[part] + shift
            return
        at, base, replace = block.at, block.base, self._native.replace_address
        for i, (offset, part, shift) in enumerate(self._active):
            address = addresses[part]
            if address != at[i]:
                at[i] = -1  # none, if what comes fails
                result = replace(base + offset, address + shift)
                if result:
                    raise failure(result, "cuTensorMapReplaceAddress")
                at[i] = address

    def _configure(self, stream: int) -> list[tuple[Any, Any, int]]:
        """For each launch its configuration and function, and where its parameters are listed."""
        ready = [
            (self.config(launch, entry, stream), entry.function, table)
            for (launch, entry), (table, _) in zip(self._launches, self._tables, strict=True)
        ]
        if len(self._ready) >= _MAX_STREAMS:
            self._ready.clear()
        self._ready[stream] = ready
        return ready

    @staticmethod
    def config(launch: ResolvedLaunch, entry: Entry, stream: int) -> Any:
        """The configuration of a launch on a stream."""
        grid = launch.grid_for(entry.max_clusters)
        return launch_config(launch.block, launch.cluster, launch.smem, grid, stream, launch.dependent)


def _key(p: ResolvedParam, place: dict[str, int]) -> tuple[Any, ...]:
    if p.kind == "pointer":
        return ("pointer", place[p.source], p.byte_offset)
    return (p.kind, p.source) if p.kind in ("f32", "tensor_map") else (p.kind, p.value, "")


def _alignments(
    active: Sequence[tuple[int, int, int]],
    maps: Sequence[Any],
    params: Sequence[ResolvedParam],
    place: dict[str, int],
    parts: Sequence[str],
) -> list[tuple[int, int, int, tuple[str, str]]]:
    """(buffer, offset in it, alignment, what the error says) of each address that a kernel or a map needs aligned."""
    needs = [
        (part, shift, tensormaps.alignment(m), (parts[part], "its tensor map needs an address that is"))
        for (_, part, shift), m in zip(active, maps, strict=True)
    ]
    needs += [(place[p.source], 0, p.align, (p.source, "the kernel needs")) for p in params if p.kind == "pointer"]
    return [need for need in dict.fromkeys(needs) if need[2] > 1]


def _misaligned(address: int, align: int, source: str, needs: str) -> ArgumentError:
    return ArgumentError(
        f"{source!r} lies at {address:#x}: {needs} a multiple of {align} bytes",
        argument=source.partition(".")[0],
        code="FP6106",
        help="pass a whole tensor, or a copy of the slice",
    )


def _up(size: int, unit: int) -> int:
    return -(-size // unit) * unit
