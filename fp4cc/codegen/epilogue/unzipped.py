"""Accumulators of which an epilogue sees the halves, where these take turns in less than a sub-tile."""

from __future__ import annotations

from fp4cc.codegen.epilogue.construct import Construct
from fp4cc.codegen.fragments import fragment
from fp4cc.codegen.mainloops import numbered


class Unzipped(Construct):
    """Sorted out of the 64 columns of two lists."""

    name = "unzipped"

    def lists(self) -> None:
        program = self.program
        if program.group is None or program.group >= program.subtile:
            return
        for index, value in enumerate(program.accumulators):
            part = index % 2
            name = self.epilogue.vectors[value] = self.names.new(f"product{index + 1}_columns")
            columns = f"[*acc{numbered(index - part)}, *acc{numbered(index - part + 1)}]"
            self.epilogue.steps.append(fragment(f"{name} = half_of({columns}, {program.group}, {part})"))
