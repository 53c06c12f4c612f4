"""The text of feeds, from their plans: what threads do for a stage, and the functions that they call."""
