"""The intermediate representations: the typed kernel (what is computed) and the lowered kernel (how)."""
