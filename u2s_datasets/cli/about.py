"""`u2s profiles` and `u2s doctor`."""

import argparse
from typing import Any


def add(commands: Any, help_class: Any) -> None:
    """Add it to a parser's commands."""
    p = commands.add_parser("profiles", help="list the profiles, what they look for and what they do not")
    p.set_defaults(call=_profiles)
    p = commands.add_parser("doctor", help="what is installed, and what will really be used")
    p.set_defaults(call=_doctor)


def _profiles(_: argparse.Namespace) -> int:
    from u2s_datasets.stages.profiles import RECIPES, build

    for name, recipe in RECIPES.items():
        inspected, left = build(name).inspect.scope()
        print(f"{name}: {recipe.words}")
        for line in recipe.needs():
            print(f"  {line}")
        print("  looks for", *inspected, sep="\n    - ")
        if left:
            print("  does not look for", *left, sep="\n    - ")
    return 0


def _doctor(_: argparse.Namespace) -> int:
    from u2s_datasets.cli.doctor import examine

    return examine()
