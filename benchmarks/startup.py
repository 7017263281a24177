"""How long a user waits before anything happens: import, --help, the report of a mistyped option."""
from __future__ import annotations

import subprocess
import sys

from common import ROOT, alternate, report


def main() -> None:
    bad = ['basicsr/train.py', '--opt', 'Options/RetinexMamba_demo.yml', 'train.total_itre=3']
    commands = {
        'python -c pass': ['-c', 'pass'],
        'import basicsr': ['-c', 'import basicsr'],
        'train.py --help': ['basicsr/train.py', '--help'],
        'a mistyped option': bad,
    }
    times = alternate({
        name: lambda c=command: subprocess.run([sys.executable, *c], cwd=ROOT, capture_output=True)
        for name, command in commands.items()
    })
    base = times['python -c pass']
    report('startup', [{'what': k, 'seconds': v, 'beyond the interpreter': v - base} for k, v in times.items()])


if __name__ == '__main__':
    main()
