"""How many plans a kernel may have: known to the command line without importing the compiler."""

#: Plans that a kernel with dynamic sizes gets at most, where no schedule block decides.
MOST_PLANS = 6
