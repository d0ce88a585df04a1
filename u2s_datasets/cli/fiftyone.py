"""`u2s fiftyone`: the command's words, and its call of `launch`. Loads nothing heavy before it is called."""

import argparse
from typing import Any


def add(commands: Any, help_class: Any) -> None:
    """Add the command to a parser's commands."""
    p = commands.add_parser(
        "fiftyone", help="review a run by eye in the FiftyOne App, on this machine only", formatter_class=help_class
    )
    p.set_defaults(call=fiftyone)
    p.add_argument("dir", metavar="DIR", help="output folder of `u2s anonymize`")
    p.add_argument("--name", help="of the FiftyOne dataset; default: the folder's")
    p.add_argument("--media", metavar="FOLDER", help="where the App's images go; default: DIR/private/fiftyone")
    p.add_argument("--port", type=int, default=5151, help="of the App, on 127.0.0.1")
    p.add_argument("--again", action="store_true", help="import the run anew")
    p.add_argument("--no-browser", action="store_true", help="do not open a browser")


def fiftyone(a: argparse.Namespace) -> int:
    """Run the command."""
    from u2s_datasets.review.fiftyone_app import convert

    convert.require()
    from u2s_datasets.review.fiftyone_app.launch import launch

    dataset, session = launch(a.dir, a.name, a.media, a.port, again=a.again, browser=not a.no_browser)
    print(f"{dataset.name}: http://127.0.0.1:{a.port} (Ctrl-C ends it; decisions are kept in {a.dir}/private)")
    session.wait(-1)
    return 0
