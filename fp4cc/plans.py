"""How many plans a kernel may have: known to the command line without importing the compiler."""

#: Plans that a kernel with dynamic sizes gets at most, where no schedule block decides.
MOST_PLANS = 6


def plans_for(asked: int | None, many: bool) -> int:
    """How many plans a kernel gets at most: of those for lists one, where nobody asks for more, so that a list of
    problems of any sizes is one launch."""
    return (1 if many else MOST_PLANS) if asked is None else asked
