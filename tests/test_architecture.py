"""The house as docs/architecture.md draws it: which room may know which, and what stands at the top."""

import ast
import re
from graphlib import TopologicalSorter
from pathlib import Path

import u2s_datasets

ROOT = Path(u2s_datasets.__file__).parent
PLAN = ROOT.parent / "docs" / "architecture.md"
FACE = {"__init__", "app", "testing"}
"""What hands on from every floor: the public face, the alias of a release, the suite for other people's parts."""

FLOORS = {
    room: int(number)
    for number, rooms in re.findall(r"^(\d) +([a-z_ ]+)$", PLAN.read_text("utf-8"), re.MULTILINE)
    for room in rooms.split()
}
MODULES = {".".join(p.relative_to(ROOT.parent).with_suffix("").parts): p for p in ROOT.rglob("*.py")}
PLUGIN = {f"u2s_datasets.fiftyone_plugin.{p.stem}": p for p in (ROOT.parent / "fiftyone_plugin").glob("*.py")}


def imported(path: Path) -> set[str]:
    """The package's own modules that a file imports, at its top or within functions, for types or not."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.ImportFrom):
            if node.level:
                continue  # within the plugin's own folder
            names = [f"{node.module}.{alias.name}" for alias in node.names]
            found |= {name if name in MODULES or f"{name}.__init__" in MODULES else str(node.module) for name in names}
        elif isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
    return {name for name in found if name.split(".")[0] == "u2s_datasets"}


def room(module: str) -> str:
    return [*module.split("."), "__init__"][1]


def test_no_import_points_up_or_to_a_neighbour():
    wrong = [
        f"{name} imports {other}"
        for name, path in (MODULES | PLUGIN).items()
        if room(name) not in FACE
        for other in imported(path)
        if room(other) != room(name)
        and (room(other) in FACE - {"__init__"} or FLOORS[room(name)] <= FLOORS.get(room(other), 0))
    ]
    assert not wrong, "\n".join(sorted(wrong))


def test_every_room_has_its_floor_and_there_are_nine():
    assert {room(name) for name in MODULES} - FACE <= set(FLOORS)
    assert max(FLOORS.values()) == 9


def test_no_circles():
    names = {name.removesuffix(".__init__"): path for name, path in MODULES.items()}
    graph = {name: imported(path) - {name} for name, path in names.items() if room(name) not in FACE}
    assert len([*TopologicalSorter(graph).static_order()]) >= len(graph)  # raises CycleError, naming the circle


def test_the_top_holds_few_rooms_and_none_is_called_like_a_public_function():
    top = {p.stem for p in ROOT.iterdir() if p.name != "__pycache__"}
    assert len(top) <= 18
    later = {"compare", "export", "publishable", "verify", "forget", "certify", "train"}
    assert not top & (set(u2s_datasets.__all__) | later)
