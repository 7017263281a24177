"""The page at an address."""
from __future__ import annotations

import os
import shutil
import socket
import sys
import tempfile
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from basicsr.app.desk import Desk
from basicsr.utils.errors import UserError


def serve(desk: Desk, default: str, host: str, port: int, open_browser: bool = False,
          ready: Callable[[str], Any] = lambda address: None) -> None:
    """Serve the page until Ctrl-C. Everything that visitors leave is in one temporary folder, which goes in the end.

    Args:
        ready: gets the address when the page is there.

    Raises:
        UserError: where the address cannot be listened at.
    """
    port = _free_port(host, port)
    with tempfile.TemporaryDirectory(prefix='basicsr-app-') as folder:
        os.environ['GRADIO_TEMP_DIR'] = str(Path(folder, 'uploads'))  # before gradio is imported
        os.environ['GRADIO_ANALYTICS_ENABLED'] = 'False'
        import gradio as gr

        from basicsr.app.page import build_page
        page = build_page(desk, default, Path(folder, 'results'))
        page.queue(max_size=desk.limits.waiting, default_concurrency_limit=1, api_open=False)
        page.launch(server_name=host, server_port=port, share=False, inbrowser=open_browser, quiet=True,
                    prevent_thread_lock=True, max_file_size=f'{desk.limits.megabytes}mb', allowed_paths=[],
                    footer_links=[], ssr_mode=False, mcp_server=False, app_kwargs={'middleware': [_only_as(host)]},
                    show_error=True, enable_monitoring=False,
                    theme=gr.themes.Default(font=['system-ui', 'sans-serif'], font_mono=['monospace']))
        ready(f'http://{host}:{port}')
        try:
            threading.Event().wait()
        finally:
            page.close(verbose=False)
            # a thread that is at a photo cannot be stopped, and would end the process by a crash
            code = getattr(sys.exc_info()[1], 'code', 130)
            shutil.rmtree(folder, ignore_errors=True)
            sys.stdout.flush()
            os._exit(code if isinstance(code, int) else 1)


def _only_as(host: str) -> Any:
    """Answers those alone who call this machine by its own name: else a page elsewhere whose name leads here could ask, too."""
    from starlette.middleware import Middleware
    from starlette.middleware.trustedhost import TrustedHostMiddleware
    open_to_all = host in ('0.0.0.0', '::')
    return Middleware(TrustedHostMiddleware,
                      allowed_hosts=['*'] if open_to_all else [host, 'localhost', '127.0.0.1', '[::1]'])


def _free_port(host: str, port: int) -> int:
    try:
        with socket.create_server((host, port)) as server:
            return int(server.getsockname()[1])
    except (OSError, OverflowError) as error:
        raise UserError(f'cannot listen at {host}:{port}: {error}; choose another --host or --port') from error
