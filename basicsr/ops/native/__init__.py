"""The C kernels of the selective scan, for float32 on CPUs, called through ctypes.

`setup.py` compiles `scan.c` into this folder when there is a C compiler; without one everything else works.
`ss2d.py` and `sequence.py` call the kernels, `library.py` loads them.
"""
