"""Compiles the C kernels of the selective scan where there is a C compiler; everything else is in pyproject.toml.

`python setup.py develop --no_cuda_ext`, which published READMEs of this family quote, works too.
"""
import sys

from setuptools import Extension, setup

if '--no_cuda_ext' in sys.argv:
    sys.argv.remove('--no_cuda_ext')
    sys.stderr.write(
        'note: --no_cuda_ext is not needed, there is no CUDA extension; "pip install -e ." does the same.\n')

FOLDER = 'basicsr/ops/native'
scan = Extension(
    'basicsr.ops.native._scan',
    sources=[f'{FOLDER}/scan.c'],
    depends=[f'{FOLDER}/{name}' for name in ('scan_isa.h', 'ss2d_isa.h', 'sequence_isa.h')],
    # no -march: the file compiles each instruction set by itself; no -ffast-math: it breaks the rounding of exp2
    extra_compile_args=[
        '-O3', '-std=gnu11', '-ffp-contract=fast', '-fno-math-errno', '-fno-trapping-math', '-fvisibility=hidden',
        '-pthread', '-Wno-psabi'
    ],
    extra_link_args=['-pthread'],
    optional=True,  # without a compiler the installation goes on, and the scan runs on plain PyTorch
)

setup(ext_modules=[] if sys.platform == 'win32' else [scan])
