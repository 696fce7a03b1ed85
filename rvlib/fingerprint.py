"""Fingerprints of code: which definitions of this package something uses, and a digest of what each computes.

A training run keeps them (`rvlib.runs`), so that it knows the code that made it. Comments, docstrings, the wording of
errors and the layout of the source do not count, nor does code that is not used: the definitions are followed by name
from the ones that are given, through all modules of the package.
"""

import ast
import hashlib
import importlib.util
import inspect
import json
import textwrap
from collections.abc import Collection
from functools import lru_cache, partial
from types import ModuleType

PACKAGE = __name__.partition(".")[0]


def code(*roots: object) -> dict[str, str]:
    """Digests of the functions, classes and constants that `roots` (functions or classes) use, by "module.name".

    A function or class of this package is found in its source. One from elsewhere (a notebook, a test) counts by its
    own source, and what it uses of this package is followed.
    """
    digests, pending = {}, []
    for root in roots:
        root = root.func if isinstance(root, partial) else root
        module = inspect.getmodule(root)
        name = root.__qualname__
        if module is not None and _is_ours(module.__name__) and name in _definitions(module.__name__):
            pending.append((module.__name__, name))
            continue
        tree, used = _foreign(root)
        digests[f"{root.__module__}.{name}"] = digest(tree)
        pending += used
    return dict(sorted((digests | _followed(pending)).items()))


def used(tree: ast.AST, *, without: Collection[str] = ()) -> dict[str, str]:
    """The same for what the statements of a notebook use of this package; modules `without` are not followed into."""
    return dict(sorted(_followed(_uses(PACKAGE, tree), without).items()))


def _followed(pending: list[tuple[str, str]], without: Collection[str] = ()) -> dict[str, str]:
    """Digests of definitions, (module, name), and of all that they use."""
    digests, seen = {}, set()
    while pending:
        place = pending.pop()
        module, name = place
        if place in seen or module in without:
            continue
        seen.add(place)
        node = _definitions(module)[name]
        digests[f"{module.rpartition('.')[2]}.{name}"] = digest(node)
        pending += _uses(module, node)
    return digests


def _is_ours(module: str) -> bool:
    return module == PACKAGE or module.startswith(PACKAGE + ".")


@lru_cache
def _definitions(module: str) -> dict[str, ast.stmt]:
    """The statements of a module that define a name, by that name."""
    found = {}
    for node in _tree(module).body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef | ast.AsyncFunctionDef):
            found[node.name] = node
        elif isinstance(node, ast.Assign | ast.AnnAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            found |= {each.id: node for target in targets for each in ast.walk(target) if isinstance(each, ast.Name)}
    return found


@lru_cache
def _tree(module: str) -> ast.Module:
    return ast.parse(inspect.getsource(importlib.import_module(module)))


@lru_cache
def _imports(module: str) -> dict[str, tuple[str, str | None]]:
    return _imported(_tree(module))


def _imported(tree: ast.AST) -> dict[str, tuple[str, str | None]]:
    """What a tree imports of this package: {name here: (module, name there, or None for the module itself)}."""
    found = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom):
            source = node.module or ""  # ruff forbids relative imports
            for alias in node.names if _is_ours(source) else ():
                whole = f"{source}.{alias.name}"
                found[alias.asname or alias.name] = (whole, None) if _is_module(whole) else (source, alias.name)
        elif isinstance(node, ast.Import):
            for alias in node.names:
                if _is_ours(alias.name):
                    local = alias.asname or PACKAGE
                    found[local] = (alias.name if alias.asname else PACKAGE, None)
    return found


@lru_cache
def _is_module(name: str) -> bool:
    try:
        return importlib.util.find_spec(name) is not None
    except ModuleNotFoundError:  # its parent is no package
        return False


def _uses(module: str, node: ast.AST) -> list[tuple[str, str]]:
    """The definitions of this package that a node names, as (module, name)."""
    imports, own = _imports(module) | _imported(node), _definitions(module)
    found = []
    for each in ast.walk(node):
        if isinstance(each, ast.Name) and each.id in own:
            found.append((module, each.id))
        elif isinstance(each, ast.Name) and each.id in imports:
            source, name = imports[each.id]
            if name is not None:
                found += _follow(source, name)
        elif isinstance(each, ast.Attribute):
            found += _attribute(each, imports)
    return found


def _attribute(node: ast.Attribute, imports: dict[str, tuple[str, str | None]]) -> list[tuple[str, str]]:
    """`losses.l1` and `rvlib.losses.l1`: the definition behind a dotted name."""
    parts = [node.attr]
    while isinstance(node.value, ast.Attribute):
        node = node.value
        parts.append(node.attr)
    if not isinstance(node.value, ast.Name) or imports.get(node.value.id, ("", ""))[1] is not None:
        return []
    module = imports[node.value.id][0]
    parts.reverse()
    while len(parts) > 1 and _is_module(f"{module}.{parts[0]}"):
        module = f"{module}.{parts.pop(0)}"
    return _follow(module, parts[0])


def _follow(module: str, name: str) -> list[tuple[str, str]]:
    """Where a name of a module is defined: there, or where that module imports it from."""
    if name in _definitions(module):
        return [(module, name)]
    source, there = _imports(module).get(name, (None, None))
    return _follow(source, there) if there is not None else []


def _foreign(root: object) -> tuple[ast.AST, list[tuple[str, str]]]:
    """The source of something outside of this package, and what it uses of it."""
    try:
        tree = ast.parse(textwrap.dedent(inspect.getsource(root)))
    except (OSError, TypeError, SyntaxError):  # typed in, or a lambda within a longer statement
        compiled = getattr(root, "__code__", None)
        tree = ast.Constant(compiled.co_code.hex() + repr(compiled.co_consts) if compiled else repr(root))
    variables = inspect.getclosurevars(root) if inspect.isfunction(root) else None
    values = {**variables.globals, **variables.nonlocals} if variables else vars(inspect.getmodule(root) or object)
    names = {each.id for each in ast.walk(tree) if isinstance(each, ast.Name)}
    imports = {name: (each.__name__, None) for name, each in values.items() if isinstance(each, ModuleType)}
    imports = {name: place for name, place in imports.items() if name in names and _is_ours(place[0])}
    used = [found for each in ast.walk(tree) if isinstance(each, ast.Attribute) for found in _attribute(each, imports)]
    for name, value in values.items():
        source = getattr(value, "__module__", None)
        if name in names and isinstance(source, str) and _is_ours(source) and hasattr(value, "__qualname__"):
            used += _follow(source, value.__qualname__)
    return tree, used


def digest(node: ast.AST) -> str:
    """A digest of what a tree computes."""
    return hashlib.sha256(json.dumps(_canonical(node)).encode()).hexdigest()[:12]


def _canonical(node: object) -> object:
    """A tree as nested lists, equal for equal computations on every version of Python.

    What is empty is left out, since versions differ in which empty fields they know.
    """
    if isinstance(node, list):
        return [_canonical(each) for each in node if not _is_text(each)]
    if isinstance(node, ast.Raise):
        return "raise"
    if not isinstance(node, ast.AST):
        return repr(node)
    fields = {name: _canonical(value) for name, value in ast.iter_fields(node) if value is not None and value != []}
    return [type(node).__name__, fields]


def _is_text(node: object) -> bool:
    """A docstring, or another constant that stands alone and computes nothing."""
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
