"""Kept beside pyproject.toml for `python setup.py develop --no_cuda_ext`, which published READMEs of this family quote.

There is no CUDA extension to leave out here, so the flag is accepted and ignored.
"""
import sys

from setuptools import setup

if '--no_cuda_ext' in sys.argv:
    sys.argv.remove('--no_cuda_ext')
    sys.stderr.write(
        'note: --no_cuda_ext is not needed, nothing has to be compiled; "pip install -e ." does the same.\n')

setup()
