"""Compiles the C kernels of the selective scan where there is a C compiler, and packs the weights that come with the
project; everything else is in pyproject.toml.

`python setup.py develop --no_cuda_ext`, which published READMEs of this family quote, works too.
"""
import json
import runpy
import sys
from pathlib import Path

from setuptools import Extension, setup
from setuptools.command.build_py import build_py

if '--no_cuda_ext' in sys.argv:
    sys.argv.remove('--no_cuda_ext')
    sys.stderr.write(
        'note: --no_cuda_ext is not needed, there is no CUDA extension; "pip install -e ." does the same.\n')

FOLDER = 'basicsr/ops/native'
flags = runpy.run_path(f'{FOLDER}/flags.py')
scan = Extension(
    'basicsr.ops.native._scan',
    sources=[f"{FOLDER}/{flags['SOURCE']}"],
    depends=[f'{FOLDER}/{name}' for name in ('flags.py', *flags['HEADERS'])],
    extra_compile_args=list(flags['COMPILE']),
    extra_link_args=list(flags['LINK']),
    optional=True,  # without a compiler the installation goes on; the first use looks for one again
)


class BuildWithWeights(build_py):
    """Puts what the manifest of `pretrained_weights/` names inside the installed package, and nothing else that a user
    may keep in that folder. An editable installation finds the folder where it is."""

    def run(self):
        super().run()
        if not self.editable_mode:
            for file in shipped():
                target = Path(self.build_lib, 'basicsr', file)
                self.mkpath(str(target.parent))
                self.copy_file(file, str(target))

    def get_source_files(self):
        return super().get_source_files() + shipped()


def shipped():
    manifest = Path('pretrained_weights', 'manifest.json')
    weights = json.loads(manifest.read_text(encoding='utf-8'))['weights'] if manifest.is_file() else {}
    files = [manifest.with_name(entry['file']) for entry in weights.values()] + [manifest] * bool(weights)
    published = manifest.with_name('published.json')  # what can be fetched
    return [str(file) for file in files + [published] * published.is_file()]


setup(ext_modules=[] if sys.platform == 'win32' else [scan], cmdclass={'build_py': BuildWithWeights})
