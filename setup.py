"""Compiles the C kernels of the selective scan where there is a C compiler, and packs the files that come with the project;
everything else is in pyproject.toml.

`python setup.py develop --no_cuda_ext`, which published READMEs of this family quote, works too.
"""
import json
import runpy
import sys
from pathlib import Path

from setuptools import Extension, setup
from setuptools.command.bdist_wheel import bdist_wheel
from setuptools.command.build_py import build_py

if '--no_cuda_ext' in sys.argv:
    sys.argv.remove('--no_cuda_ext')
    sys.stderr.write(
        'note: --no_cuda_ext is not needed, there is no CUDA extension; "pip install -e ." does the same.\n')

# folders that are shipped, and which of their files
KEPT = {
    'Options': ('.yml', '.json', '.txt'), 'Ablation_Model': ('.py', '.yml'),
    'data/demo': ('.jpg', '.png', '.md', '.txt', '.json')
}
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


class BuildWithFiles(build_py):
    """Puts what comes with the project inside the installed package, below `basicsr/shipped`: option files, ablations, demo
    pictures, and of `pretrained_weights/` what its manifest names, as users may keep other things there. An editable
    installation finds the folders where they are."""

    def run(self):
        super().run()
        if not self.editable_mode:
            for file in shipped():
                target = Path(self.build_lib, 'basicsr', 'shipped', file)
                self.mkpath(str(target.parent))
                self.copy_file(file, str(target))

    def get_source_files(self):
        return super().get_source_files() + shipped()


class Wheel(bdist_wheel):
    """One wheel for all versions of Python: the kernels are called through ctypes and know nothing of it."""

    def finalize_options(self):
        super().finalize_options()
        self.root_is_pure = not self.distribution.ext_modules

    def get_tag(self):
        return ('py3', 'none', super().get_tag()[2])


def shipped():
    manifest = Path('pretrained_weights', 'manifest.json')
    weights = json.loads(manifest.read_text(encoding='utf-8'))['weights'] if manifest.is_file() else {}
    files = [manifest.with_name(entry['file']) for entry in weights.values()] + [manifest] * bool(weights)
    published = manifest.with_name('published.json')  # what can be fetched
    files += [published] * published.is_file()
    for folder, suffixes in KEPT.items():
        files += sorted(file for file in Path(folder).rglob('*') if file.suffix in suffixes)
    return [str(file) for file in files]


setup(ext_modules=[] if sys.platform == 'win32' else [scan],
      cmdclass={'build_py': BuildWithFiles, 'bdist_wheel': Wheel})
