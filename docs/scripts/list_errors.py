"""Every message that the package raises or warns with, one to a line: `python docs/scripts/list_errors.py`.

To be read aloud: what is wrong, the value, what was expected or the remedy.
"""

import ast
from collections.abc import Iterator
from pathlib import Path

PACKAGE = Path(__file__).parents[2] / "u2s_datasets"
SPOKEN = {"note", "fail", "warning", "info", "error"}
"""Methods whose text people read as well: reasons against a push, withheld rows, logs."""


def messages(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """(line, text) of every raised error and every call whose text people read."""
    for node in ast.walk(tree):
        call = node.exc if isinstance(node, ast.Raise) else node.value if isinstance(node, ast.Return) else node
        if not isinstance(call, ast.Call):
            continue
        name = call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")
        if not (isinstance(node, ast.Raise) or name in SPOKEN or name.endswith(("Error", "Failed", "Answer", "Found"))):
            continue
        for argument in call.args:
            if isinstance(argument, ast.JoinedStr | ast.Constant | ast.BinOp) and " " in (text := spoken(argument)):
                yield argument.lineno, text


def spoken(node: ast.AST) -> str:
    """A text with its values as the names that stand in braces."""
    if isinstance(node, ast.Constant):
        return str(node.value)
    if isinstance(node, ast.JoinedStr):
        return "".join(map(spoken, node.values))
    if isinstance(node, ast.FormattedValue):
        return f"{{{ast.unparse(node.value)}}}"
    return "".join(map(spoken, ast.iter_child_nodes(node)))


def main() -> None:
    """Print them, ordered by file."""
    for path in sorted(PACKAGE.rglob("*.py")):
        found = sorted(set(messages(ast.parse(path.read_text("utf-8")))))
        for line, text in found:
            print(f"{path.relative_to(PACKAGE)}:{line}: {text}")


if __name__ == "__main__":
    main()
