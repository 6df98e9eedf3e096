"""What a registry's results are made by, in a few characters: a result of one fingerprint may be no result of another.

A client that comes back after a deploy holds results of the functions as they were. Where a function, a row's columns
or a window's size has changed, it must be given whole results, not what it missed of the old ones.
"""

import hashlib
import inspect
import sys
from importlib.metadata import version

import msgspec

from bonfire.clinical.describe import describe
from bonfire.clinical.queries import AppQuery, FunctionBody
from bonfire.clinical.registry import Registry
from bonfire.clinical.sql_queries import SqlBody
from bonfire.store.compile_model import fingerprint as model_fingerprint


def fingerprint(registry: Registry) -> str:
    """Twelve characters that change with what is declared, the SQL, the read models, the text of the modules that
    declare functions (not of those that these import), and the release."""
    digest = hashlib.sha256(version("bonfire").encode())
    digest.update(msgspec.json.encode(describe(registry)))
    for model in registry.models:
        digest.update(model_fingerprint(model).encode())
    modules: set[str] = set()
    for query in registry.queries:
        match query:
            case AppQuery(body=SqlBody(text=text)):
                digest.update(text.encode())
            case AppQuery(body=FunctionBody(function=function)):
                modules.add(function.__module__)
            case _:
                pass
    for name in sorted(modules):
        digest.update(_source(name))
    return digest.hexdigest()[:12]


def _source(module: str) -> bytes:
    loaded = sys.modules.get(module)
    try:
        return inspect.getsource(loaded).encode() if loaded is not None else b""
    except (OSError, TypeError):
        # It has no text (a module made at run time): then its functions' declarations must do.
        return module.encode()
