"""`bonfire dev my_clinic.py`: the server starts again when the module, or a file beside it, is saved.

A supervisor watches, the server is its child. A save that does not load is said, with file and line, and the running
server goes on; clients notice a restart as a short reconnect. A save that loads, and that the database then refuses
(a query's SQL), ends the server; the next save starts it again.
"""

import signal
import subprocess
import sys
import threading
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.markup import escape
from watchfiles import PythonFilter, watch


def supervise(module: Path, words: Sequence[str], err: Console) -> int:
    """Run `bonfire <words>` until this process is asked to stop; the exit status of the last child."""
    stop = threading.Event()

    def asked(number: int, frame: object) -> None:
        stop.set()

    before = [(number, signal.signal(number, asked)) for number in (signal.SIGINT, signal.SIGTERM)]
    child = _start(words)
    reloaded = ended = False
    try:
        # The yield on each timeout is what lets a child that ended by itself be noticed.
        for changes in watch(
            module.resolve().parent,
            watch_filter=PythonFilter(),
            stop_event=stop,
            yield_on_timeout=True,
            rust_timeout=500,
        ):
            if not changes:
                if child.poll() is not None and not reloaded:
                    # It never ran with these words (a port in use, say): no save can help.
                    return child.returncode
                if child.poll() is not None and not ended:
                    ended = True
                    err.print(f"It has ended, and starts again when you save {module.name}", highlight=False)
                continue
            problem = _problem(module)
            if problem is not None:
                err.print(f"[bold red]Not reloaded:[/] {escape(problem)}", highlight=False)
                continue
            err.print(f"{module.name} has changed: starting again", highlight=False)
            _end(child)
            child, reloaded, ended = _start(words), True, False
        return 0
    finally:
        _end(child)
        for number, handler in before:
            signal.signal(number, handler)


def _start(words: Sequence[str]) -> "subprocess.Popen[bytes]":
    # A session of its own: Ctrl-C goes to the supervisor, which ends the child in order.
    return subprocess.Popen([sys.executable, "-m", "bonfire", *words], start_new_session=True)


def _end(child: "subprocess.Popen[bytes]") -> None:
    if child.poll() is None:
        child.terminate()
        try:
            child.wait(15)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()


_TRY = """
import sys
from pathlib import Path
from bonfire.clinical.builtin import builtin_registry
from bonfire.clinical.load import ModuleError, ModuleLoader
try:
    ModuleLoader(Path(sys.argv[1])).load(builtin_registry())
except ModuleError as error:
    sys.exit(str(error))
"""


def _problem(module: Path) -> str | None:
    """Why the module can't be loaded, tried in a process of its own; None when it can."""
    tried = subprocess.run([sys.executable, "-c", _TRY, str(module)], capture_output=True, text=True, check=False)
    return None if tried.returncode == 0 else tried.stderr.strip() or "it ends the process"
