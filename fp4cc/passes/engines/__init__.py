"""What multiplies, one folder each; `none` where nothing is multiplied."""
