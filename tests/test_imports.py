"""Which module may know which: metrics know no stage, and nothing imports in a circle."""

import ast
from graphlib import TopologicalSorter
from pathlib import Path

import u2s_datasets

ROOT = Path(u2s_datasets.__file__).parent
MODULES = {".".join(p.relative_to(ROOT.parent).with_suffix("").parts): p for p in ROOT.rglob("*.py")}


def imported(path: Path, everywhere: bool) -> set[str]:
    """The package's own modules that a file imports: at its top, or also within functions."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    found = (n for n in (ast.walk(tree) if everywhere else tree.body) if isinstance(n, ast.ImportFrom) and n.module)
    names = {(n.module, alias.name) for n in found for alias in n.names}
    return {f"{m}.{name}" if f"{m}.{name}" in MODULES else m for m, name in names if m.startswith("u2s_datasets")}


def test_metrics_know_no_stage_and_no_run():
    above = ("stages", "runner", "pipeline", "profiles", "evaluate", "vispr_evaluation", "cli")
    for name, path in MODULES.items():
        if name.startswith("u2s_datasets.metrics."):
            assert not [m for m in imported(path, everywhere=True) if m.split(".")[1] in above], name


def test_no_circles():
    graph = {name: imported(path, everywhere=False) - {name} for name, path in MODULES.items()}
    assert len([*TopologicalSorter(graph).static_order()]) >= len(MODULES)  # raises CycleError, naming the circle
