"""The console script `basicsr`, and `python -m basicsr`: basicsr COMMAND ..."""
from __future__ import annotations

import importlib
import sys

from basicsr import __version__
from basicsr.utils.errors import nearest, run_main

_COMMANDS = {
    'train': ('basicsr.train', 'train a network from an option file'),
    'test': ('basicsr.test', 'test a network on the data sets of an option file'),
    'evaluate': ('basicsr.commands.evaluate', 'restore data sets and measure the results (test_from_dataset.py)'),
    'measure': ('basicsr.commands.measure', 'metrics of a folder of images, or of two folders'),
    'enhance': ('basicsr.commands.enhance', 'enhance photos, or folders of them'),
    'app': ('basicsr.commands.app', 'a page in the browser for photos, on this machine'),
    'video': ('basicsr.commands.video', 'enhance a clip, with its sound and in steady light'),
    'search': ('basicsr.commands.search', 'search for the best options by many short runs'),
    'segment': ('basicsr.commands.segment', 'compute the semantic maps of a folder of images'),
    'export': ('basicsr.commands.export', 'write a network as safetensors, TorchScript, exported program or ONNX'),
    'fetch': ('basicsr.commands.fetch', 'fetch published weights ahead of time'),
    'publish': ('basicsr.commands.publish', 'write a folder for a model hub: weights, arguments, model card'),
    'ablate': ('basicsr.commands.ablate', 'train the variants of a study, write one table of their results'),
    'benchmark': ('basicsr.commands.benchmark', 'compare weights of all kinds on one data set, in one table'),
    'check-data': ('basicsr.commands.check_data', 'check pairs, sizes and files before training'),
    'throughput': ('basicsr.commands.throughput', 'how fast a training runs here, in which precision'),
    'augment': ('basicsr.commands.augment', 'make augmented copies of image pairs'),
    'split': ('basicsr.commands.split', 'hold out whole scenes of a folder for validation'),
    'lmdb': ('basicsr.commands.lmdb', 'pack a folder of images into a database'),
    'list': ('basicsr.commands.listing', 'networks, losses, metrics, ... that options can name'),
    'doctor': ('basicsr.commands.doctor', 'what works on this machine, and why not'),
    'schema': ('basicsr.commands.schema', 'write Options/schema.json, which editors complete options from'),
}


def main(argv: list[str] | None = None) -> int:
    argv = sys.argv[1:] if argv is None else argv
    if argv and argv[0] in _COMMANDS:
        sys.argv = [f'basicsr {argv[0]}', *argv[1:]]  # what help texts and logs show
        return importlib.import_module(_COMMANDS[argv[0]][0]).main(argv[1:])
    return run_main(lambda: _help(argv))


def _help(argv: list[str]) -> int:
    if argv and argv[0] == '--version':
        print(f'retinexmamba {__version__}')
        return 0
    wrong = bool(argv) and argv[0] not in ('-h', '--help')
    stream = sys.stderr if wrong or not argv else sys.stdout
    if wrong:
        print(f"error: there is no command '{argv[0]}'.{nearest(argv[0], _COMMANDS)}", file=stream)
    print('usage: basicsr COMMAND ...\n', *(f'  {name:<12}{text}' for name, (_, text) in _COMMANDS.items()),
          '\nbasicsr COMMAND --help explains one.', sep='\n', file=stream)
    return 0 if stream is sys.stdout else 2


if __name__ == '__main__':
    sys.exit(main())
