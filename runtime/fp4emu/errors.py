"""What the emulator reports when a kernel, or the text of one, is wrong."""

from __future__ import annotations

from dataclasses import dataclass, replace


@dataclass(frozen=True, slots=True)
class Place:
    """Where a fault happened: PTX line (one-based), its text, and who executed it (None where it does not apply)."""

    line: int | None = None
    text: str = ""
    entry: str | None = None
    cta: tuple[int, int, int] | None = None
    warp: int | None = None
    lane: int | None = None

    def __str__(self) -> str:
        parts: list[str] = []
        if self.line is not None:
            parts.append(f"PTX line {self.line}")
        if self.entry is not None:
            parts.append(f"entry {self.entry}")
        if self.cta is not None:
            parts.append(f"CTA {self.cta}")
        if self.warp is not None:
            parts.append(f"warp {self.warp}")
        if self.lane is not None:
            parts.append(f"lane {self.lane}")
        return ", ".join(parts)


class Fault(Exception):
    """A kernel did something that PTX does not define, or used something that the emulator does not model.

    Handlers raise it with a message and a hint; the executor adds the place (`with_place`) on the way out.
    """

    def __init__(self, message: str, *, hint: str = "", place: Place | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.place = place or Place()

    @property
    def line(self) -> int | None:
        return self.place.line

    @property
    def warp(self) -> int | None:
        return self.place.warp

    @property
    def cta(self) -> tuple[int, int, int] | None:
        return self.place.cta

    def with_place(self, **changes: object) -> Fault:
        """Fills those fields of the place that are still unknown."""
        known = {name: value for name, value in changes.items() if getattr(self.place, name) in (None, "")}
        self.place = replace(self.place, **known)  # type: ignore[arg-type]
        return self

    def __str__(self) -> str:
        where = str(self.place)
        lines = [f"{where}: {self.message}" if where else self.message]
        if self.place.text:
            lines.append(f"    {self.place.text.strip()}")
        if self.hint:
            lines.append(f"  hint: {self.hint}")
        return "\n".join(lines)


class PtxError(Fault):
    """The PTX text itself cannot be loaded: syntax, an unknown opcode or modifier, an undeclared name."""


class TimeOver(Fault):
    """The launch was given a time, and did not end in it."""


class Deadlock(Fault):
    """No warp can ever continue. `waits` says, for each waiting warp, what it waits for."""

    def __init__(self, message: str, waits: tuple[str, ...], *, hint: str = "", place: Place | None = None) -> None:
        super().__init__(message, hint=hint, place=place)
        self.args = (message, waits)  # what unpickling calls the class with
        self.waits = waits

    def __str__(self) -> str:
        return "\n".join([super().__str__(), *(f"  {wait}" for wait in self.waits)])
