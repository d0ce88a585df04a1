"""The `u2s` command: parse, call, print. Each command is added by a module beside this one."""

import argparse
import os
import sys
from collections.abc import Sequence

from u2s_datasets.cli import about, anonymize, bench, evaluate, fiftyone, push
from u2s_datasets.errors import SetupError, U2SError

_RESUMED = ("anonymize", "push", "vispr")
"""Commands that go on where they left off when they are repeated."""
_BENCHES = ("stage1", "edit", "eval", "detect")


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point. Returns 0, or 2 for a call to mend, 1 for a failure, 130 for Ctrl-C."""
    words = list(sys.argv[1:] if argv is None else argv)
    if words[:1] == ["bench"] and words[1:2] and words[1] in _BENCHES:
        words[:2] = [" ".join(words[:2])]  # one command: what else follows `bench` is a folder of photos
    arguments = _parser().parse_args(words)
    try:
        return arguments.call(arguments)
    except SetupError as error:
        print(f"u2s: {error}", file=sys.stderr)
        return 2
    except U2SError as error:
        print(f"u2s: {error}", file=sys.stderr)
        return 1
    except BrokenPipeError:  # `u2s profiles | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # or Python says so once more at its end
        return 1
    except KeyboardInterrupt:
        resumed = "; the same command goes on where it left off" if arguments.command in _RESUMED else ""
        print(f"\nu2s: stopped{resumed}", file=sys.stderr)
        return 130


class _Help(argparse.ArgumentDefaultsHelpFormatter):
    """Shows defaults, except None and False."""

    def _get_help_string(self, action: argparse.Action) -> str | None:
        return action.help if action.default in (None, False) else super()._get_help_string(action)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="u2s", description="Make image datasets safe to publish: find what is private, hide it, prove it."
    )
    commands = parser.add_subparsers(title="commands", dest="command", required=True, metavar="COMMAND")
    for module in (anonymize, evaluate, about, bench, fiftyone, push):
        module.add(commands, _Help)
    return parser


if __name__ == "__main__":
    sys.exit(main())
