"""A mutant in a process: where everything is imported already, by exchanging code; else by another source at the import."""

from __future__ import annotations

import ast
import gc
import sys
import types
from importlib.machinery import ModuleSpec, PathFinder, SourceFileLoader
from pathlib import Path
from typing import Any, Final

from mutation.operators import Mutant, mutants_of

SOURCE: Final = Path(__file__).parents[2] / "src" / "tallystick"


class NotAppliedError(Exception):
    """This mutant cannot be put in this way."""


def compile_mutant(mutant: Mutant) -> types.CodeType:
    """The module with the error in it."""
    path = SOURCE / mutant.file
    tree, found = mutants_of(mutant.file, path.read_text("utf-8"))
    same, change = found[mutant.index]
    if same.name != mutant.name:
        raise NotAppliedError(f"{mutant.file} has changed")
    change()
    code: types.CodeType = compile(ast.fix_missing_locations(tree), str(path), "exec")
    return code


class Live:
    """What is imported: every function by its code, and what functions remember. Taken before ``gc.freeze`` hides it."""

    def __init__(self) -> None:
        self._functions: dict[tuple[str, str, int], list[types.FunctionType]] = {}
        self._memories: list[Any] = []
        for one in gc.get_objects():
            if isinstance(one, types.FunctionType):
                code = one.__code__
                if code.co_filename.startswith(str(SOURCE)):
                    key = (code.co_filename, code.co_qualname, code.co_firstlineno)
                    self._functions.setdefault(key, []).append(one)
            elif type(one).__name__ == "_lru_cache_wrapper" and _is_ours(one):
                self._memories.append(one)

    def put_in(self, mutant: Mutant) -> None:
        """Exchange the code of the function that holds the error, whoever holds that function."""
        code = next((one for one in _codes(compile_mutant(mutant)) if _is_of(one, mutant)), None)
        functions = self._functions.get((str(SOURCE / mutant.file), mutant.function, mutant.first_line))
        if code is None or not functions:
            raise NotAppliedError(mutant.name)
        for function in functions:
            if code.co_freevars != function.__code__.co_freevars:
                raise NotAppliedError(mutant.name)
            function.__code__ = code
        for memory in self._memories:
            memory.cache_clear()


def put_in_at_import(mutant: Mutant) -> None:
    """From now on, whoever imports the module gets it with the error."""
    name = "tallystick." + mutant.file.removesuffix(".py").replace("/", ".")
    if name in sys.modules:
        raise NotAppliedError(f"{name} is there already")
    code = compile_mutant(mutant)

    class Loader(SourceFileLoader):
        def get_code(self, fullname: str) -> types.CodeType:  # noqa: ARG002 - part of the protocol
            return code

    class Finder:
        @staticmethod
        def find_spec(fullname: str, path: Any = None, target: Any = None) -> ModuleSpec | None:
            spec = PathFinder.find_spec(fullname, path, target) if fullname == name else None
            if spec is not None and spec.origin is not None:
                spec.loader = Loader(name, spec.origin)
            return spec

    finder: Any = Finder
    sys.meta_path.insert(0, finder)


def _codes(code: types.CodeType) -> list[types.CodeType]:
    inner = [one for one in code.co_consts if isinstance(one, types.CodeType)]
    return [code, *(found for one in inner for found in _codes(one))]


def _is_of(code: types.CodeType, mutant: Mutant) -> bool:
    return code.co_qualname == mutant.function and code.co_firstlineno == mutant.first_line


def _is_ours(remembered: Any) -> bool:
    module = getattr(getattr(remembered, "__wrapped__", None), "__module__", "") or ""
    return module.startswith("tallystick.") and not module.startswith(("tallystick.simulator", "tallystick.protocol"))
