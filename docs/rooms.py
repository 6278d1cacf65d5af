"""The rooms of ``mmseg`` and the imports between them."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = "mmseg"
# From the ground up. A room imports only from rooms that are listed before it.
ROOMS = (
    "system",
    "classes",
    "errors",
    "registry",
    "io",
    "config",
    "parallel",
    "events",
    "extractors",
    "work_dir",
    "models",
    "datasets",
    "uda",
    "visualization",
    "engine",
    "evaluation",
    "preparation",
    "checks",
    "style_transfer",
    "toy",
    "report",
    "inference",
    "launcher",
    "apis",
)


def modules() -> dict[str, Path]:
    """Every module of the package and its file."""
    found = {}
    for path in sorted((ROOT / PACKAGE).rglob("*.py")):
        parts = path.relative_to(ROOT).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def room_of(module: str) -> str:
    """Room of a module; the package itself has none."""
    return module.split(".")[1] if "." in module else ""


def imports() -> dict[str, set[str]]:
    """For each module, the modules of the package that it imports: anywhere in the file, functions included.

    ``mmseg.apis`` names the modules of its lazy names in strings; each counts as an import. The strings in
    ``mmseg.registry`` do not: it holds whatever registers itself there and uses none of it.
    """
    known = modules()
    graph: dict[str, set[str]] = {}
    for module, path in known.items():
        package = module if path.name == "__init__.py" else module.rpartition(".")[0]
        tree = ast.parse(path.read_text(encoding="utf-8"), str(path))
        graph[module] = set(_imported(tree, package, known)) - {module}
    return graph


def _imported(tree: ast.Module, package: str, known: Mapping[str, Path]) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name in known)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                parents = package.split(".")
                base = ".".join([*parents[: len(parents) - node.level + 1], *filter(None, [node.module])])
            for alias in node.names:
                name = f"{base}.{alias.name}"
                if name in known:
                    yield name
                elif base in known:
                    yield base
        elif package == f"{PACKAGE}.apis" and isinstance(node, ast.Constant) and node.value in known:
            yield node.value


def arrows(graph: Mapping[str, set[str]]) -> dict[tuple[str, str], set[tuple[str, str]]]:
    """Imports from one room to another: (room, room) -> pairs of modules."""
    found: dict[tuple[str, str], set[tuple[str, str]]] = {}
    for module, targets in graph.items():
        for target in targets:
            pair = (room_of(module), room_of(target))
            if pair[0] != pair[1] and all(pair):
                found.setdefault(pair, set()).add((module, target))
    return found


def cycles(graph: Mapping[str, set[str]]) -> list[set[str]]:
    """Groups of modules that import each other, directly or through others."""
    reached = {module: _reach(graph, module) for module in graph}
    groups = {frozenset({other for other in reached[m] if m in reached[other]}) for m in graph if m in reached[m]}
    return sorted((set(group) for group in groups), key=sorted)


def _reach(graph: Mapping[str, set[str]], start: str) -> set[str]:
    seen: set[str] = set()
    waiting = list(graph[start])
    while waiting:
        module = waiting.pop()
        if module not in seen:
            seen.add(module)
            waiting.extend(graph[module])
    return seen
