"""The CUDA side of the runtime: driver, tensor maps, packing and launching. Imported only where a GPU is asked for."""
