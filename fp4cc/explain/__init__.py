"""What was chosen, why, and what it costs: `fp4cc explain`."""
