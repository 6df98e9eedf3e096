"""A user's module -> the functions that it declares; again on every save, without harm when it is broken.

Importing runs the module's code, so it is for the developer's own files: `bonfire dev my_clinic.py`.
"""

import importlib
import sys
from pathlib import Path
from traceback import extract_tb
from types import ModuleType

from bonfire.clinical.errors import RegistrationError
from bonfire.clinical.registry import Registry


class ModuleError(Exception):
    """The module can't be used. The message says where and why: `my_clinic.py:12: NameError: ...`."""


class ModuleLoader:
    """Loads one file, with the modules beside it that it imports, fresh each time.

    `load` gives a new registry or raises ModuleError. What an earlier load gave goes on working whatever happens: its
    functions hold on to the code that they came from. Not thread-safe: the interpreter's table of modules is shared.
    """

    def __init__(self, path: Path) -> None:
        self.path = path.resolve()
        self._folder = self.path.parent
        self._loaded: dict[str, ModuleType] = {}

    def load(self, base: Registry) -> Registry:
        """All of `base` and of the registries that the module holds by name."""
        module = self._import()
        found = {id(value): value for value in vars(module).values() if isinstance(value, Registry)}
        if not found:
            raise ModuleError(
                f"{self.path.name}: it holds no registry: write `clinic = Registry()` and declare into it"
            )
        joined = Registry()
        joined.include(base)
        try:
            for registry in found.values():
                joined.include(registry)
        except RegistrationError as error:
            raise ModuleError(f"{self.path.name}: {error}") from None
        return joined

    def _import(self) -> ModuleType:
        name = self.path.stem
        if not name.isidentifier():
            raise ModuleError(f"{self.path.name}: a module's file name is a Python name: my_clinic.py")
        if name in sys.modules and name not in self._loaded:
            raise ModuleError(f"{self.path.name}: a module called `{name}` exists already: rename the file")
        try:
            source = self.path.read_bytes()
        except OSError as error:
            raise ModuleError(f"{self.path}: the file can't be read: {error.strerror}") from None
        if str(self._folder) not in sys.path:
            sys.path.insert(0, str(self._folder))
        for loaded in self._loaded:
            sys.modules.pop(loaded, None)
        importlib.invalidate_caches()
        before = set(sys.modules)
        writes_bytecode = sys.dont_write_bytecode
        # Bytecode is told from its source by the second and the size: two quick saves would run the older one.
        sys.dont_write_bytecode = True
        module = ModuleType(name)
        module.__file__ = str(self.path)
        sys.modules[name] = module
        try:
            exec(compile(source, str(self.path), "exec", dont_inherit=True), vars(module))
        except (Exception, SystemExit) as error:
            for fresh in self._fresh(before):
                del sys.modules[fresh]
            sys.modules.update(self._loaded)
            raise ModuleError(self._explain(error)) from error
        finally:
            sys.dont_write_bytecode = writes_bytecode
        self._loaded = {fresh: sys.modules[fresh] for fresh in self._fresh(before)}
        return module

    def _fresh(self, before: set[str]) -> list[str]:
        """The modules of the user's own folder that were imported since."""
        return [name for name in set(sys.modules) - before if self._is_own(name, sys.modules[name])]

    def _is_own(self, name: str, module: ModuleType) -> bool:
        file = getattr(module, "__file__", None)
        if file is None or name.partition(".")[0] in ("bonfire", "bonfire_protocol"):
            return False
        path = Path(file).resolve()
        # A virtual environment may lie in the same folder: what is installed is nobody's to reload.
        return path.is_relative_to(self._folder) and "site-packages" not in path.parts

    def _explain(self, error: BaseException) -> str:
        if isinstance(error, SyntaxError) and error.filename is not None:
            return f"{Path(error.filename).name}:{error.lineno}: {error.msg}"
        place = self.path.name
        for frame in extract_tb(error.__traceback__):
            if Path(frame.filename).is_relative_to(self._folder) and "site-packages" not in frame.filename:
                place = f"{Path(frame.filename).name}:{frame.lineno}"
        if isinstance(error, RegistrationError):
            return f"{place}: {error}"
        return f"{place}: {type(error).__name__}: {error}"
