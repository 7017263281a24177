"""Nothing that only POSIX has is called without a way around it."""
from __future__ import annotations

import ast
import re

import pytest
import torch
from conftest import ROOT

from basicsr.utils.machine import choose_device

# what Windows lacks; files of Linux count as well, which macOS lacks too
MODULES = {'fcntl', 'grp', 'pty', 'pwd', 'resource', 'syslog', 'termios', 'tty'}
OF_OS = {
    'chown', 'fchmod', 'fchown', 'fork', 'forkpty', 'getegid', 'geteuid', 'getgid', 'getgroups', 'getloadavg',
    'getpgid', 'getpgrp', 'getpriority', 'getsid', 'getuid', 'killpg', 'lchown', 'major', 'minor', 'mkfifo', 'mknod',
    'nice', 'openpty', 'pathconf', 'pipe2', 'posix_fadvise', 'posix_fallocate', 'posix_spawn', 'pread', 'pwrite',
    'register_at_fork', 'sched_getaffinity', 'sched_setaffinity', 'sched_yield', 'sendfile', 'setgid', 'setpgid',
    'setpriority', 'setsid', 'setuid', 'statvfs', 'sync', 'sysconf', 'uname', 'wait', 'wait3', 'wait4', 'WEXITSTATUS',
    'WIFSIGNALED', 'WNOHANG'
}
OF_SIGNAL = {
    'SIGALRM', 'SIGCHLD', 'SIGHUP', 'SIGKILL', 'SIGPIPE', 'SIGQUIT', 'SIGSTOP', 'SIGUSR1', 'SIGUSR2', 'alarm',
    'pthread_kill', 'pthread_sigmask', 'setitimer', 'sigwait'
}
WORDS = {'preexec_fn', 'start_new_session', 'process_group'}  # arguments of subprocess
METHODS, FORKS = ('get_context', 'set_start_method'), ('fork', 'forkserver')
PLACES = r'/(dev/shm|dev/null|proc|sys)(/|$)'
WAYS = ('hasattr', 'platform', 'is_file', 'None')  # asks what there is, or what was found
CAUGHT = {'ImportError', 'AttributeError', 'OSError', 'ValueError', 'NotImplementedError'}

FILES = [
    f for folder in ('basicsr', 'Enhancement', 'Ablation_Model', 'scripts')
    for f in sorted((ROOT / folder).rglob('*.py'))
]


def posix_only(node: ast.AST, names: dict[str, str]) -> str | None:
    """What a node names that only POSIX, or only Linux, has. `names`: what modules are called in this file."""
    if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
        module = names.get(node.value.id, node.value.id)
        return f'{module}.{node.attr}' if node.attr in {'os': OF_OS, 'signal': OF_SIGNAL}.get(module, set()) else None
    if isinstance(node, ast.Import):
        return next((a.name for a in node.names if a.name in MODULES), None)
    if isinstance(node, ast.ImportFrom):
        of = {'os': OF_OS, 'signal': OF_SIGNAL}.get(node.module or '', set())
        return node.module if node.module in MODULES else next((a.name for a in node.names if a.name in of), None)
    if isinstance(node, ast.keyword):
        return node.arg if node.arg in WORDS else None
    if isinstance(node, ast.Call) and ast.unparse(node.func).split('.')[-1] in METHODS:
        return next((a.value for a in node.args if isinstance(a, ast.Constant) and a.value in FORKS), None)
    if isinstance(node, ast.Constant) and isinstance(node.value, str) and '\n' not in node.value:
        return node.value if re.match(PLACES, node.value) else None
    return None


def has_a_way_around(above: list[ast.AST]) -> bool:
    """Whether one of the nodes around it asks what there is, or takes the error."""
    for node in above:
        if isinstance(node, (ast.If, ast.IfExp)) and asks(node.test):
            return True
        if isinstance(node, ast.Try) and any(h.type is None or takes(h.type) for h in node.handlers):
            return True
        if isinstance(node, ast.With) and any('suppress' in ast.unparse(item) and takes(item) for item in node.items):
            return True
        # a function that asks, before or after: the walk does not follow what it does with the answer
        if isinstance(node, ast.FunctionDef) and any(
                asks(n.test) for n in ast.walk(node) if isinstance(n, (ast.If, ast.IfExp))):
            return True
    return False


def asks(test: ast.AST) -> bool:
    return any(word in ast.unparse(test) for word in WAYS)


def takes(handler: ast.AST) -> bool:
    return bool(CAUGHT & {n.id for n in ast.walk(handler) if isinstance(n, ast.Name)})


def found(text: str) -> list[tuple[int, str]]:
    """(line, what) of all that has no way around it."""
    out: list[tuple[int, str]] = []
    tree = ast.parse(text)
    names = {a.asname or a.name: a.name for node in ast.walk(tree) if isinstance(node, ast.Import) for a in node.names}

    def walk(node: ast.AST, above: list[ast.AST]) -> None:
        what = posix_only(node, names)
        if what and not has_a_way_around(above):
            out.append((getattr(node, 'lineno', 0), what))
        for child in ast.iter_child_nodes(node):
            walk(child, [*above, node])

    walk(tree, [])
    return out


def test_what_only_posix_has_has_a_way_around_it():
    assert len(FILES) > 300
    assert not [
        f'{file.relative_to(ROOT)}:{line}: {what}' for file in FILES
        for line, what in found(file.read_text(encoding='utf-8'))
    ]


@pytest.mark.parametrize('text, count', [('import os\nos.fork()', 1), ('import fcntl', 1), ('open("/dev/shm/x")', 1),
                                         ('signal.signal(signal.SIGUSR1, f)', 1),
                                         ('subprocess.Popen(a, start_new_session=True)', 1),
                                         ('if hasattr(os, "fork"):\n os.fork()', 0),
                                         ('try:\n import fcntl\nexcept ImportError:\n pass', 0),
                                         ('def f():\n if sys.platform != "linux":\n  return\n import resource', 0),
                                         ('os.getpid()', 0), ('from os import fork', 1),
                                         ('import os as o\no.fork()', 1), ('from signal import SIGUSR1', 1),
                                         ('get_context("fork")', 1), ('place = Path("/proc")', 1),
                                         ('def f():\n if os.path.exists(p):\n  os.fork()', 1),
                                         ('with suppress(KeyError):\n os.fork()', 1),
                                         ('with suppress(OSError):\n open("/proc/x")', 0)])
def test_the_walk_sees_what_it_is_for(text, count):
    assert len(found(text)) == count


@pytest.mark.parametrize('there, chosen', [({'cuda', 'mps'}, 'cuda'), ({'mps'}, 'mps'), (set(), 'cpu')])
def test_the_device_is_what_is_there(monkeypatch, there, chosen):
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: 'cuda' in there)
    monkeypatch.setattr(torch.backends.mps, 'is_available', lambda: 'mps' in there)
    assert choose_device() == chosen
