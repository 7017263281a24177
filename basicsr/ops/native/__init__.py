"""The C kernels of the selective scan and of GELU, for float32 on CPUs, called through ctypes.

`setup.py` compiles `scan.c` into this folder when there is a C compiler. Where it has not, `compiled.py` does so on first use,
into the cache; without a compiler everything else works. `library.py` loads the kernels; `ss2d.py`, `sequence.py` and `gelu.py`
call them.
"""
