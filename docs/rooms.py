"""The rooms of ``mmseg`` and the imports between them; ``python docs/rooms.py`` draws ``docs/images/rooms.svg``."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping
from itertools import pairwise
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = "mmseg"
# From the ground up, with what each holds. A room imports only from rooms that are listed before it.
ROOMS = {
    "system": "signals, console, Python",
    "classes": "names and colours",
    "errors": "messages and exit codes",
    "registry": "type= in a config",
    "io": "readers of files",
    "weights": "by name, URL or hub",
    "config": "load, keys, RunConfig",
    "parallel": "several processes",
    "events": "recordings, voxel grids",
    "extractors": "content map, image change",
    "work_dir": "the folder of a run",
    "models": "networks and losses",
    "datasets": "samples of a training",
    "uda": "the method",
    "visualization": "pictures",
    "engine": "Trainer, checkpoints",
    "evaluation": "scores, predictions",
    "preparation": "downloads to data",
    "checks": "of a data root",
    "style_transfer": "training the generator",
    "toy": "the toy city",
    "report": "HTML, comparison",
    "inference": "your own pictures",
    "launcher": "flags to child configs",
    "apis": "for scripts and users",
    "commands": "cmda and the scripts",
}
PICTURE = ROOT / "docs" / "images" / "rooms.svg"


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


# ------------------------------------------------------------------------------------------------ the picture

WIDTH, BOX, FLOOR, MARGIN = 960, (164, 46), 92, 16
LANE = 22  # room that an arrow takes on a floor that it passes


def lines_of_code() -> dict[str, int]:
    """Lines of each room."""
    lines = dict.fromkeys(ROOMS, 0)
    for module, path in modules().items():
        if room := room_of(module):
            lines[room] += len(path.read_text(encoding="utf-8").splitlines())
    return lines


def needed_arrows(graph: Mapping[str, set[str]]) -> dict[str, set[str]]:
    """For each room, the rooms that it imports from and does not reach through others."""
    below: dict[str, set[str]] = {room: set() for room in ROOMS}
    for room, target in arrows(graph):
        if list(ROOMS).index(target) < list(ROOMS).index(room):
            below[room].add(target)
    reached: dict[str, set[str]] = {}
    for room in ROOMS:
        reached[room] = below[room].union(*(reached[target] for target in below[room]))
    return {room: {t for t in below[room] if not any(t in reached[o] for o in below[room])} for room in ROOMS}


def floors(needed: Mapping[str, set[str]]) -> dict[str, int]:
    """Floor of each room: one above the highest that it stands on."""
    found: dict[str, int] = {}
    for room in ROOMS:
        found[room] = 1 + max((found[target] for target in needed[room]), default=-1)
    return found


def layout(needed: Mapping[str, set[str]]) -> tuple[dict[str, tuple[float, float]], list[list[str]]]:
    """Middle of each box and of each lane, and the way of every arrow from box to box over its lanes."""
    floor = floors(needed)
    rows: list[list[str]] = [[] for _ in range(max(floor.values()) + 1)]
    for room in ROOMS:
        rows[floor[room]].append(room)
    ways = []
    for room in ROOMS:
        for target in sorted(needed[room], key=list(ROOMS).index):
            lanes = [f"{room}>{target}@{level}" for level in range(floor[room] - 1, floor[target], -1)]
            for level, lane in zip(range(floor[room] - 1, floor[target], -1), lanes, strict=True):
                rows[level].append(lane)
            ways.append([room, *lanes, target])
    beside: dict[str, list[str]] = {name: [] for row in rows for name in row}
    for way in ways:
        for one, other in pairwise(way):
            beside[one].append(other)
            beside[other].append(one)
    place = _spread(rows)
    for _ in range(40):
        for row in (*rows, *reversed(rows)):
            row.sort(key=lambda name: sum(place[n] for n in beside[name]) / max(1, len(beside[name])) or place[name])
            place |= _spread([row])
    top = len(rows) - 1
    return {
        name: (place[name], MARGIN + BOX[1] / 2 + FLOOR * (top - level))
        for level, row in enumerate(rows)
        for name in row
    }, ways


def _spread(rows: list[list[str]]) -> dict[str, float]:
    """Places from left to right, a box wider than a lane."""
    place = {}
    for row in rows:
        widths = [BOX[0] if name in ROOMS else LANE for name in row]
        gap = min((WIDTH - sum(widths)) / (len(row) + 1), 60)
        x = (WIDTH - sum(widths) - gap * (len(row) - 1)) / 2
        for name, width in zip(row, widths, strict=True):
            place[name] = round(x + width / 2, 1)
            x += width + gap
    return place


def draw() -> str:
    """The picture: rooms by floor, and the arrows between them that others do not imply."""
    needed, lines = needed_arrows(imports()), lines_of_code()
    place, ways = layout(needed)
    height = max(y for _, y in place.values()) + BOX[1] / 2 + MARGIN
    parts = []
    for way in ways:
        points = [place[name] for name in way]
        (x, y), (end_x, end_y) = points[0], points[-1]
        points[0], points[-1] = (x, y + BOX[1] / 2), (end_x, end_y - BOX[1] / 2 - 7)
        path = f"M{points[0][0]} {points[0][1]}"
        for (x, y), (to_x, to_y) in pairwise(points):
            middle = (y + to_y) / 2
            path += f"C{x} {middle} {to_x} {middle} {to_x} {to_y}"
        parts.append(f'<path d="{path}" fill="none" stroke="#8a8fa8" stroke-width="1.4" marker-end="url(#tip)"/>')
    for room, holds in ROOMS.items():
        x, y = place[room]
        left, top = x - BOX[0] / 2, y - BOX[1] / 2
        size = f"{lines[room] / 1000:.1f}k lines" if lines[room] >= 100 else "small"
        parts.append(
            f'<rect x="{left}" y="{top}" width="{BOX[0]}" height="{BOX[1]}" rx="6" fill="#e8eaf6" stroke="#3f51b5"/>'
            f'<text x="{left + 9}" y="{top + 19}" font-weight="bold" font-size="13">{room}</text>'
            f'<text x="{left + BOX[0] - 9}" y="{top + 19}" text-anchor="end" fill="#667">{size}</text>'
            f'<text x="{left + 9}" y="{top + 36}" fill="#334">{holds}</text>'
        )
    tip = (
        '<marker id="tip" viewBox="0 0 8 8" refX="1" refY="4" markerWidth="7" markerHeight="7" orient="auto">'
        '<path d="M0 0L8 4L0 8z" fill="#8a8fa8"/></marker>'
    )
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height:g}" font-family="sans-serif" '
        f'font-size="11">\n<defs>{tip}</defs>\n<rect width="100%" height="100%" fill="white"/>\n'
        + "\n".join(parts)
        + "\n</svg>\n"
    )


if __name__ == "__main__":
    PICTURE.write_text(draw(), encoding="utf-8")
