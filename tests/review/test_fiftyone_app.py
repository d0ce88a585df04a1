"""The App in headless Chromium on anonymized real photos: what a curator sees, clicks and presses.

With U2S_SCREENSHOTS set to a folder the pictures of docs/fiftyone.md are written there.
"""

import os
import shutil
import signal
import socket
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest

import u2s_datasets as u2s
from tests.helpers.fiftyone_home import IGNORED, fo
from u2s_datasets import columns as c
from u2s_datasets.cli.bench.sample_photos import write_samples
from u2s_datasets.review.fiftyone_app import actions, launch
from u2s_datasets.runs.decisions import PENDING, read_decisions
from u2s_datasets.runs.manifest import locate_rows

pytestmark = IGNORED

playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed: `make test-fiftyone`")
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
if CHROMIUM is None:
    pytest.skip("chromium is not installed: apt-get install chromium", allow_module_level=True)

FLAGS = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"]
FLAGS += ["--disable-background-networking", "--disable-component-update", "--disable-sync"]
PATIENCE = 90_000  # milliseconds; the App's first page is several megabytes of script


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Path:
    home = tmp_path_factory.mktemp("app")
    write_samples(home / "photos")
    u2s.run(home / "photos", home / "out", shard_size=4, num_proc=1)
    return home / "out"


@pytest.fixture(scope="module")
def app(run, tmp_path_factory):
    """The dataset and the App's port."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    dataset, session = launch.launch(run, "photos", tmp_path_factory.mktemp("shown"), port=port, browser=False)
    yield dataset, port
    session.close()


@pytest.fixture(scope="module")
def page(app):
    """The App's page; what is not of this machine is not asked for."""
    _, port = app
    with playwright.sync_playwright() as play:
        browser = play.chromium.launch(executable_path=CHROMIUM, args=FLAGS)  # with a new profile
        page = browser.new_page(viewport={"width": 1440, "height": 860})
        page.set_default_timeout(PATIENCE)
        page.route("**/*", lambda route: route.continue_() if "127.0.0.1" in route.request.url else route.abort())
        page.goto(f"http://127.0.0.1:{port}/datasets/photos")
        page.locator(".js-plotly-plot .point path").first.wait_for()
        if page.get_by_text("Dismiss", exact=True).count():
            page.get_by_text("Dismiss", exact=True).click()
        yield page
        browser.close()


def shot(page, name: str, tmp_path: Path) -> None:
    folder = Path(os.environ.get("U2S_SCREENSHOTS", tmp_path))
    page.wait_for_timeout(1500)  # images fade in
    page.screenshot(path=folder / f"{name}.jpg", type="jpeg", quality=42)
    assert (folder / f"{name}.jpg").stat().st_size > 20_000


def operator(page, label: str) -> None:
    """Open an operator's form by its name, as a user does."""
    page.mouse.click(5, 855)
    page.keyboard.press("`")
    page.get_by_placeholder("Search operations").fill(label)
    page.keyboard.press("Enter")


def test_the_app_opens_with_the_panel_on_real_photos(page, app, tmp_path):
    page.get_by_text("9 to look at").wait_for()
    assert page.get_by_text("safe 5").count() == 1
    for name in ("original", "anonymized"):
        image = page.locator(f"img[alt={name}]")
        image.wait_for()
        page.wait_for_function("e => e.complete && e.naturalWidth > 100", arg=image.element_handle())
    shot(page, "fiftyone_panel", tmp_path)


def test_a_click_on_a_bar_narrows_the_grid(page, app, tmp_path):
    dataset, _ = app
    risks = dataset.values("residual_risk")
    page.get_by_text("18 samples").wait_for()
    bar = page.locator(".js-plotly-plot").first.locator(".point path").first.bounding_box()
    page.mouse.click(bar["x"] + bar["width"] / 2, bar["y"] + bar["height"] / 2)
    page.get_by_text(f"{sum(risk < 0.05 for risk in risks)} groups with slice").wait_for()
    shot(page, "fiftyone_bar", tmp_path)
    page.get_by_role("button", name="Show everything").click()
    page.get_by_text("18 samples").wait_for()


def test_a_key_approves_the_pair_and_the_next_one_comes(page, app, run):
    dataset, _ = app
    first = page.locator("img[alt=original]").get_attribute("src")
    page.keyboard.press("a")
    page.get_by_text("8 to look at").wait_for()
    assert page.locator("img[alt=original]").get_attribute("src") != first
    ((row, entry),) = read_decisions(run).items()
    assert row in first and entry[c.REVIEW_DECISION] == "approve"
    assert dataset.match(fo.ViewField(c.ROW_ID) == row).values(c.REVIEW_DECISION) == ["approve"]
    page.keyboard.press("r")
    page.get_by_text("7 to look at").wait_for()
    assert sorted(e[c.REVIEW_DECISION] for e in read_decisions(run).values()) == ["approve", "reject"]
    assert dataset.count_values(c.STATUS)[c.WITHHELD] == 1


def test_keys_do_nothing_while_a_form_is_open(page, app, run, tmp_path):
    before = read_decisions(run)
    operator(page, "Privacy: anonymize")
    page.get_by_role("dialog").get_by_text("inspect · detectors").wait_for()
    page.keyboard.press("a")
    shot(page, "fiftyone_form", tmp_path)
    page.get_by_role("dialog").get_by_text("Cancel").click()
    page.get_by_role("dialog").wait_for(state="detached")
    assert read_decisions(run) == before


def test_the_publish_form_refuses_while_rows_are_unresolved(page, app, run, tmp_path):
    dataset, _ = app
    waiting = next(row for row in locate_rows(run) if row not in read_decisions(run))
    actions.decide(dataset, [waiting], PENDING, "ada")
    operator(page, "Privacy: publish")
    dialog = page.get_by_role("dialog")
    dialog.get_by_text("unresolved rows, whose review was asked for and not given: 1").wait_for()
    assert dialog.get_by_role("button", name="Execute").is_disabled()
    shot(page, "fiftyone_publish", tmp_path)
    dialog.get_by_text("Cancel").click()


def test_the_servers_listen_to_this_machine_alone(app):
    psutil = pytest.importorskip("psutil", reason="psutil is not installed: FiftyOne brings it")
    ours = [psutil.Process(), *psutil.Process().children(recursive=True)]
    listening = [link.laddr.ip for one in ours for link in one.net_connections() if link.status == "LISTEN"]
    assert len(listening) >= 2 and set(listening) <= {"127.0.0.1", "::1"}


def test_the_command_serves_a_run_until_it_is_stopped(run, tmp_path):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    call = [sys.executable, "-m", "u2s_datasets.cli.main", "fiftyone", str(run), "--no-browser", "--port", str(port)]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    with subprocess.Popen([*call, "--name", "served"], **pipes) as one:
        for line in one.stdout:
            if f"served: http://127.0.0.1:{port}" in line:
                break
        assert urllib.request.urlopen(f"http://127.0.0.1:{port}/fiftyone", timeout=60).status == 200
        assert (run / "private/fiftyone/anonymized").is_dir()
        one.send_signal(signal.SIGINT)
        one.stdout.read()
        assert one.wait(60) in (0, 130)
    fo.delete_dataset("served")
