"""`fp4cc tune`: which schedules there are, which of them the model likes, and which is the fastest on a GPU."""
