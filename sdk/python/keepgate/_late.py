"""Imports that happen while a plugin runs. It has no files then: the builder runs the top of each module with all files
at hand and makes the component of the interpreter as it is afterwards. But functions import, too, those of plugins and
Python's own: `datetime.strptime` wants `_strptime`, `"…".encode("idna")` wants `encodings.idna`.

`keep` is called at the end of the build. What functions of the plugin's modules name is imported, and the build fails if
it is missing. Everything else that may be asked for, in particular the rest of the standard library, is kept as
compressed bytecode, which `_Kept` runs when it is first imported."""

from __future__ import annotations

import ast
import gc
import importlib
import json
import marshal
import os
import pkgutil
import sys
import zlib
from collections.abc import Iterable, Iterator
from importlib.machinery import ModuleSpec
from importlib.util import spec_from_file_location
from types import CodeType, ModuleType

#: Where the standard library is during the build; what is frozen into Python names another folder.
_PYTHONS = os.path.dirname(os.path.dirname(json.__file__))

#: Of the standard library, what is not kept: tools for developers, what needs screens, processes or C libraries that
#: are not there, and the slow doubles of modules that are built in. Half of the library by size. What is imported at
#: the top of a module is part of the component all the same.
_LEFT_OUT = {
    "_aix_support", "_android_support", "_apple_support", "_ios_support", "_osx_support", "_pydatetime", "_pydecimal",
    "_pyio", "_pyrepl", "antigravity", "bdb", "cProfile", "compileall", "ctypes", "curses", "doctest", "ensurepip",
    "idlelib", "modulefinder", "multiprocessing", "pdb", "pickletools", "profile", "pstats", "pty", "py_compile",
    "pyclbr", "pydoc", "pydoc_data", "rlcompleter", "tabnanny", "this", "tkinter", "trace", "tty", "turtle",
    "turtledemo", "unittest", "venv", "webbrowser", "zipapp",
}

#: What C code imports at calls that plugins make often; each fresh instance would run it again.
_OFTEN = ["_strptime", "encodings.ascii", "encodings.idna", "encodings.latin_1"]


def keep() -> None:
    """Provides for all imports of the running plugin. Raises `ImportError` if a module of the plugin names one within a
    function that does not exist."""
    if sys.platform != "wasi":
        return  # In an author's own test there are files.
    main = sys.modules["plugin"]
    folder = os.path.dirname(main.__file__ or "")
    for name in _OFTEN:
        importlib.import_module(name)
    _import_named(folder)
    kept = _Kept()
    kept.add([_PYTHONS], _LEFT_OUT)
    kept.add([folder])
    for name, module in list(sys.modules.items()):
        path = getattr(module, "__path__", None)
        if path and "." not in name and not _is_below(_PYTHONS, module):
            kept.add(list(path), prefix=f"{name}.")
    sys.meta_path.append(kept)
    _wipe()


def advice(error: BaseException) -> str:
    """What to add to the message of an exception, if it is an import that came too late."""
    if not isinstance(error, ModuleNotFoundError) or not error.name:
        return ""
    return f"; import {error.name} at the top of plugin.py, because a running plugin has no files"


class _Kept:
    """A finder and loader of modules whose bytecode is in memory."""

    def __init__(self) -> None:
        #: By name: the file that it was compiled from, whether that is a package's, and the bytecode.
        self._modules: dict[str, tuple[str, bool, bytes]] = {}

    def add(self, folders: Iterable[str], without: Iterable[str] = (), prefix: str = "") -> None:
        """Adds the modules in these folders that are not imported yet."""
        for found in pkgutil.iter_modules(folders, prefix):
            name, last = found.name, found.name.rpartition(".")[2]
            if last in without or last in ("__main__", "test", "tests") or name in self._modules:
                continue
            spec = found.module_finder.find_spec(name, None)
            if spec is None or spec.origin is None:
                continue
            if name not in sys.modules and (code := _bytecode(spec)) is not None:
                self._modules[name] = (spec.origin, found.ispkg, zlib.compress(code))
            if found.ispkg:
                self.add(spec.submodule_search_locations or [], (), f"{name}.")

    def find_spec(self, name: str, path: object = None, target: object = None) -> ModuleSpec | None:
        if name not in self._modules:
            return None
        file, is_package, _ = self._modules[name]
        within = [os.path.dirname(file)] if is_package else None
        return spec_from_file_location(name, file, loader=self, submodule_search_locations=within)

    def create_module(self, spec: ModuleSpec) -> None:
        return None

    def exec_module(self, module: ModuleType) -> None:
        exec(self.get_code(module.__name__), module.__dict__)

    def get_code(self, name: str) -> CodeType:
        return marshal.loads(zlib.decompress(self._modules[name][2]))

    def is_package(self, name: str) -> bool:
        return self._modules[name][1]


def _bytecode(spec: ModuleSpec) -> bytes | None:
    """The bytecode of a module, or `None` for one that is not written in Python, or not in this Python."""
    try:
        return marshal.dumps(spec.loader.get_code(spec.name))  # type: ignore[union-attr]
    except (AttributeError, ImportError, SyntaxError, ValueError):
        return None


def _wipe() -> None:
    """Overwrites memory that is free: the component has all bytes that are not zero, used or not. What compiling leaves
    would be 3 MB of it."""
    gc.collect()
    block = 1 << 12  # Fits into what is free, so that the memory does not grow.
    _blocks = [bytearray(block) for _ in range((3 << 20) // block)]


def _is_below(folder: str, module: ModuleType) -> bool:
    return (getattr(module, "__file__", None) or "").startswith(f"{folder}/")


def _import_named(folder: str) -> None:
    """Imports what functions of modules in the folder name, and of modules there that are imported by that."""
    read: set[str] = set()
    while waiting := [name for name in sys.modules if name not in read]:
        read.update(waiting)
        for name in waiting:
            module = sys.modules[name]
            if not _is_below(folder, module):
                continue
            # Packages are often somebody else's, who has reasons for naming what is not there.
            strict = os.path.dirname(module.__file__ or "") == folder
            for line, wanted, parts, guarded in _named(module):
                error = _try(wanted, parts)
                if error is not None and strict and not guarded:
                    file = os.path.basename(module.__file__ or "")
                    raise ImportError(
                        f'{file}:{line}: cannot import "{wanted}": {error}; put it beside plugin.py, or catch '
                        "ImportError if the plugin can do without it",
                        name=error.name,
                    ) from None


def _try(name: str, parts: list[str]) -> ImportError | None:
    try:
        module = importlib.import_module(name)
        for part in parts:
            # `from name import part` is a member or a module.
            if not hasattr(module, part):
                importlib.import_module(f"{name}.{part}")
    except ImportError as error:
        return error
    except Exception:  # It may work at run time, when there is a host.
        return None
    return None


def _is_guard(node: ast.AST) -> bool:
    """Whether what is imported within may be missing: in a `try` that catches something, with `suppress`, or if the
    system is another one."""
    match node:
        case ast.Try(handlers=handlers):
            return bool(handlers)
        case ast.With(items=items):
            return "suppress" in ast.dump(ast.Tuple([item.context_expr for item in items]))
        case ast.If(test=test):
            return any(word in ast.dump(test) for word in ("TYPE_CHECKING", "platform", "version_info"))
    return False


def _named(module: ModuleType) -> Iterator[tuple[int, str, list[str], bool]]:
    """The imports in functions of a module: line, module, its parts, and whether the function provides for a failure."""
    try:
        with open(module.__file__ or "", "rb") as source:
            tree = ast.parse(source.read())
    except (OSError, SyntaxError, ValueError):
        return
    package = (getattr(module, "__package__", None) or "").split(".")

    def visit(node: ast.AST, within: bool, guarded: bool) -> Iterator[tuple[int, str, list[str], bool]]:
        within = within or isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))
        guarded = guarded or _is_guard(node)
        if within and isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name, [], guarded) for alias in node.names)
        elif within and isinstance(node, ast.ImportFrom):
            above = package[: len(package) + 1 - node.level] if node.level else []
            base = ".".join([*above, *([node.module] if node.module else [])])
            parts = [alias.name for alias in node.names if alias.name != "*"]
            yield node.lineno, base, parts, guarded
        for child in ast.iter_child_nodes(node):
            yield from visit(child, within, guarded)

    yield from visit(tree, False, False)
