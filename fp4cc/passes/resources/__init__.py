"""What a plan takes of a chip: shared memory, tensor maps, parameters, the grid."""
