"""What works here and why not: basicsr doctor"""
from __future__ import annotations

import argparse

from basicsr.utils.errors import run_main


def parse(argv: list[str] | None) -> argparse.Namespace:
    return argparse.ArgumentParser(description=__doc__).parse_args(argv)


def run(argv: list[str] | None) -> int:
    parse(argv)
    from basicsr.ops.diagnosis import diagnose
    failed = False
    for line, broken in diagnose():
        print(line)
        failed |= broken
    return 2 if failed else 0


def main(argv: list[str] | None = None) -> int:
    return run_main(lambda: run(argv))
