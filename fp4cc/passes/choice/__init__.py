"""Which schedule block applies, what is chosen where nothing is asked, and why."""
