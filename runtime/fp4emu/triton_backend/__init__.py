"""The emulator as a backend that Triton finds by itself, by the entry point group `triton.backends`.

    TRITON_DEFAULT_BACKEND=fp4emu python program.py

runs a Triton program as it is, in which `triton.runtime.driver.active.get_active_torch_device()` is the CPU. Triton
imports both modules of every such package whenever it is imported itself, so they do no more than they must: without
that variable they change nothing. Their names are those that Triton looks for.
"""
