"""How operands and their scales reach what multiplies them."""
