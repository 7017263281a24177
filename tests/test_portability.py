"""Nothing that only POSIX has is called without a way around it."""
from __future__ import annotations

import ast

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
PLACES = ('/dev/shm', '/proc/', '/sys/', '/dev/null')
WAYS = ('hasattr', 'platform', 'is_file', 'exists', 'getattr')  # asks what there is
CAUGHT = {'ImportError', 'AttributeError', 'OSError', 'ValueError', 'NotImplementedError'}

FILES = [
    f for folder in ('basicsr', 'Enhancement', 'Ablation_Model', 'scripts')
    for f in sorted((ROOT / folder).rglob('*.py'))
]


def posix_only(node: ast.AST) -> str | None:
    """What a node names that only POSIX, or only Linux, has."""
    if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
        names = {'os': OF_OS, 'signal': OF_SIGNAL}.get(node.value.id, set())
        return f'{node.value.id}.{node.attr}' if node.attr in names else None
    if isinstance(node, ast.Import):
        return next((a.name for a in node.names if a.name in MODULES), None)
    if isinstance(node, ast.ImportFrom):
        return node.module if node.module in MODULES else None
    if isinstance(node, ast.keyword):
        return node.arg if node.arg in WORDS else None
    if isinstance(node, ast.Call) and node.args and isinstance(node.args[0], ast.Constant):
        place = node.args[0].value
        return place if isinstance(place, str) and place.startswith(PLACES) else None
    return None


def has_a_way_around(above: list[ast.AST]) -> bool:
    """Whether one of the nodes around it asks what there is, or takes the error."""
    for node in above:
        if isinstance(node, (ast.If, ast.IfExp)) and any(word in ast.unparse(node.test) for word in WAYS):
            return True
        caught = [h.type for h in node.handlers] if isinstance(node, ast.Try) else []
        if any(handler is None or CAUGHT & {n.id for n in ast.walk(handler) if isinstance(n, ast.Name)}
               for handler in caught):
            return True
        if isinstance(node, ast.With) and any('suppress' in ast.unparse(item) for item in node.items):
            return True
        # a function that asks before it begins, and leaves
        if isinstance(node, ast.FunctionDef) and any(word in ast.unparse(node) for word in WAYS):
            return True
    return False


def found(text: str) -> list[tuple[int, str]]:
    """(line, what) of all that has no way around it."""
    out: list[tuple[int, str]] = []

    def walk(node: ast.AST, above: list[ast.AST]) -> None:
        what = posix_only(node)
        if what and not has_a_way_around(above):
            out.append((getattr(node, 'lineno', 0), what))
        for child in ast.iter_child_nodes(node):
            walk(child, [*above, node])

    walk(ast.parse(text), [])
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
                                         ('os.getpid()', 0)])
def test_the_walk_sees_what_it_is_for(text, count):
    assert len(found(text)) == count


@pytest.mark.parametrize('there, chosen', [({'cuda', 'mps'}, 'cuda'), ({'mps'}, 'mps'), (set(), 'cpu')])
def test_the_device_is_what_is_there(monkeypatch, there, chosen):
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: 'cuda' in there)
    monkeypatch.setattr(torch.backends.mps, 'is_available', lambda: 'mps' in there)
    assert choose_device() == chosen
