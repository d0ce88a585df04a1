"""Starting the App on a run: the plugin is put where FiftyOne looks for it, and the server listens to this machine
alone."""

import shutil
from pathlib import Path
from typing import Any

import fiftyone as fo

from u2s_datasets.errors import SetupError
from u2s_datasets.review.fiftyone_app.convert import to_fiftyone

ADDRESS = "127.0.0.1"
PANEL = "privacy_review"


def plugin_folder() -> Path:
    """The plugin's folder: beside the package in a checkout, inside it once installed.

    Raises:
        SetupError: this installation lacks it.
    """
    package = Path(__file__).parents[2]
    for folder in (package / "_fiftyone_plugin", package.parent / "fiftyone_plugin"):
        if (folder / "fiftyone.yml").exists():
            return folder
    raise SetupError("this installation of u2s_datasets lacks its FiftyOne plugin; install it again")


def install_plugin() -> Path:
    """Put a link to the plugin into FiftyOne's plugin folder (a copy where links cannot be made). Returns its place.

    Raises:
        SetupError: something else lies there.
    """
    place, own = Path(fo.config.plugins_dir) / "u2s_datasets", plugin_folder()
    place.parent.mkdir(parents=True, exist_ok=True)
    if place.is_symlink():
        place.unlink()
    elif (place / "fiftyone.yml").exists() and "@u2s/privacy" in (place / "fiftyone.yml").read_text("utf-8"):
        shutil.rmtree(place)
    elif place.exists():
        raise SetupError(f"{str(place)!r} exists and is not our plugin; move it away")
    try:
        place.symlink_to(own, target_is_directory=True)
    except OSError:
        shutil.copytree(own, place)
    return place


def launch(
    folder: str | Path,
    name: str | None = None,
    media: str | Path | None = None,
    port: int = 5151,
    again: bool = False,
    browser: bool = True,
) -> tuple[fo.Dataset, Any]:
    """Import a run, unless it was imported before, and start the App on it.

    Args:
        folder: of the run.
        name: of the FiftyOne dataset; None for the folder's name.
        media: folder for the images that the App shows; None for `private/fiftyone` of the run.
        port: of the App, on 127.0.0.1.
        again: whether to import the run again.
        browser: whether to open the App in a browser.

    Returns:
        The dataset and FiftyOne's session; `session.wait(-1)` keeps it open.
    """
    root = Path(folder).expanduser()
    name = name or root.resolve().name
    install_plugin()
    dataset = _imported(root, name, media or root / "private" / "fiftyone", again)
    # Without an address FiftyOne listens to every machine where it finds itself in a container.
    session = fo.launch_app(dataset, spaces=side_by_side(), address=ADDRESS, port=port, remote=not browser)
    return dataset, session


def side_by_side() -> fo.Space:
    """The grid on the left, the panel "Privacy review" on the right."""
    grid, panel = fo.Panel(type="Samples", pinned=True), fo.Panel(type=PANEL)
    sides = [fo.Space(children=[one], active_child=one.component_id) for one in (grid, panel)]
    return fo.Space(children=sides, orientation="horizontal", sizes=[0.55, 0.45])


def _imported(root: Path, name: str, media: str | Path, again: bool) -> fo.Dataset:
    from u2s_datasets.review.fiftyone_app import mirror
    from u2s_datasets.review.fiftyone_app import samples as s

    if not again and fo.dataset_exists(name):
        dataset = fo.load_dataset(name)
        if mirror.run_folder(dataset) == root.resolve() and s.info_of(dataset)["complete"]:
            mirror.mirror_changes(dataset)
            return dataset
    return to_fiftyone(root, name, media, overwrite=again, progress=True)
