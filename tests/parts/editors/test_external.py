"""Programs that anonymize a folder: small ones written here, each with its own fault, and deface itself.

`make test-external` also runs the last tests, for which deface is looked for on the PATH and in U2S_DEFACE, and else
installed into an environment of its own.
"""

import contextlib
import dataclasses
import fcntl
import json
import logging
import os
import pickle
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image
from skimage import data

import u2s_datasets as u2s
from tests.helpers.fakes import ByPixels, RedSquares, picture
from u2s_datasets import columns as c
from u2s_datasets.cli.main import main
from u2s_datasets.errors import EditFailed, PartlyFailed, SetupError
from u2s_datasets.parts import Edit
from u2s_datasets.parts.catalog import EDITORS, make

GOOD = """
import sys
from pathlib import Path
import numpy as np
from PIL import Image
given, made, *more = sys.argv[1:]
def paint(array):
    array[4:20, 4:20] = 0
    return array
for path in sorted(Path(given).iterdir()):
    out = Path(made) / path.name
    {fault}
    Image.fromarray(paint(np.array(Image.open(path)))).save(out)
"""
FAULTS = {
    "drops it": "continue",
    "renames it": "out = out.with_name('other.png')",
    "gives it back": "out.write_bytes(path.read_bytes()); continue",
    "links to it": "out.symlink_to(path); continue",
    "links hard": "out.hardlink_to(path); continue",
    "cuts it short": "out.write_bytes(path.read_bytes()[:-999]); continue",
    "shrinks it": "Image.open(path).resize((40, 40)).save(out); continue",
    "blackens it": "Image.new('RGB', (96, 64)).save(out); continue",
    "makes a folder": "out.mkdir(); continue",
    "makes a pipe": "import os; os.mkfifo(out); continue",
}
"""What the program does to the second of its images."""


def program(folder: Path, fault: str = "", source: str = GOOD, **options) -> u2s.ExternalEditor:
    """An editor whose program is this source."""
    path = folder / "program.py"
    path.write_text(source.replace("{fault}", fault))
    command = (sys.executable, str(path), "{input}", "{output}", *options.pop("more", ()))
    return u2s.ExternalEditor(command, **{"timeout": 60.0, **options})


def orders(n: int = 3) -> list[Edit]:
    return [Edit(picture(seed=i), seed=100 + i) for i in range(n)]


def test_every_image_comes_back_under_its_own_name(tmp_path):
    mixed = [Edit(Image.fromarray(data.astronaut()).resize((90, 70)), seed=5), *orders(2)]
    outputs = program(tmp_path).edit(mixed)
    for out, order in zip(outputs, mixed, strict=True):
        before, after = np.asarray(order.image), np.asarray(out)
        assert (out.mode, out.size) == ("RGB", order.image.size)
        assert not after[4:20, 4:20].any()
        assert np.array_equal(after[20:], before[20:])


@pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS.keys())
def test_a_row_whose_image_does_not_come_back_fails_alone(tmp_path, fault):
    with pytest.raises(PartlyFailed) as caught:
        program(tmp_path, f"if path.stem.endswith('1'): {fault}").edit(orders())
    assert [isinstance(result, EditFailed) for result in caught.value.results] == [False, True, False]


def test_images_that_come_back_under_each_others_names_fail(tmp_path):
    source = GOOD + "\na, b, _ = sorted(Path(made).iterdir())\na.rename('x'), b.rename(a), Path('x').rename(b)\n"
    photos = [Image.fromarray(array).resize((120, 120)) for array in (data.astronaut(), data.coffee(), data.cat())]
    with pytest.raises(PartlyFailed) as caught:
        program(tmp_path, source=source).edit([Edit(photo, seed=i) for i, photo in enumerate(photos)])
    first, second, third = caught.value.results
    assert "another row's" in str(first) and "another row's" in str(second)
    assert isinstance(third, Image.Image)


def test_a_status_other_than_0_discredits_the_whole_run_and_withholds_the_one_image_that_caused_it(tmp_path):
    crash = "if np.array(Image.open(path))[0, 0, 1] == 255: sys.exit(1)"
    rows = [*orders(2), Edit(picture(corner=(0, 255, 0)), seed=1)]
    with pytest.raises(PartlyFailed) as caught:
        program(tmp_path, crash).edit(rows)
    assert [isinstance(result, EditFailed) for result in caught.value.results] == [False, False, True]
    assert "status 1" in str(caught.value.results[2])


def test_what_a_program_left_before_it_failed_is_not_used(tmp_path):
    with pytest.raises(PartlyFailed, match="3 of 3 rows failed"):
        program(tmp_path, source=GOOD + "\nsys.exit(3)").edit(orders())


def test_a_program_that_hangs_is_ended_with_all_that_it_started(tmp_path):
    held = tmp_path / "held"
    child = f"import fcntl, time; f = open({str(held)!r}, 'w'); fcntl.flock(f, fcntl.LOCK_EX); time.sleep(600)"
    source = f"""
import subprocess, sys, time
subprocess.Popen([sys.executable, "-c", {child!r}])
time.sleep(600)
"""
    with pytest.raises(EditFailed, match=r"more than 1\.5 s"):
        program(tmp_path, source=source, timeout=1.5).edit(orders(1))
    assert held.exists() and _free(held)


def _free(path: Path) -> bool:
    """Whether nobody holds the lock on a file any more; a process that is killed lets go within seconds."""
    with path.open() as file:
        for _ in range(100):
            with contextlib.suppress(BlockingIOError):
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return True
            time.sleep(0.1)
    return False


@pytest.mark.parametrize("fault", ["", "sys.exit(1)"], ids=["it works", "it fails"])
def test_the_folder_is_private_and_nothing_stays(tmp_path, monkeypatch, fault):
    (tmp_path / "temporary").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    seen = tmp_path / "seen"
    look = f"""
import os, stat, tempfile
root = Path(given).parent
open("stray", "w").write("left behind"); tempfile.mkstemp()
left = [p.name for p in Path({str(tmp_path / "temporary")!r}).iterdir()]
open({str(seen)!r}, "w").write(repr((stat.S_IMODE(root.stat().st_mode), left == [root.name], os.listdir(given))))
"""
    source = GOOD.replace("def paint", look + "\ndef paint")
    try:
        program(tmp_path, fault, source).edit(orders(1))
    except EditFailed:
        assert fault
    assert seen.read_text() == repr((0o700, True, ["000000.png"]))
    assert list((tmp_path / "temporary").iterdir()) == []


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL], ids=["SIGTERM", "SIGKILL"])
def test_a_killed_call_leaves_neither_its_folder_nor_its_program(tmp_path, number):
    held, temporary = tmp_path / "held", tmp_path / "temporary"
    temporary.mkdir()
    (tmp_path / "program.py").write_text(
        f"import fcntl, time; f = open({str(held)!r}, 'w'); fcntl.flock(f, fcntl.LOCK_EX)\n"
        "print(1, file=f, flush=True); time.sleep(600)"
    )
    call = f"""
from PIL import Image
import sys, u2s_datasets as u2s
editor = u2s.ExternalEditor((sys.executable, {str(tmp_path / "program.py")!r}, "{{input}}"), timeout=600)
editor.edit([u2s.Edit(Image.new("RGB", (20, 20), (9, 9, 99)))])
"""
    process = subprocess.Popen([sys.executable, "-c", call], env=os.environ | {"TMPDIR": str(temporary)})
    assert _soon(lambda: held.exists() and held.read_text())
    assert [path.name for path in temporary.glob("*/in/*")] == ["000000.png"]
    process.send_signal(number)
    process.wait()
    assert _free(held) and _soon(lambda: not list(temporary.iterdir()))


def _soon(what) -> bool:
    for _ in range(300):
        if what():
            return True
        time.sleep(0.1)
    return False


def test_a_program_is_given_no_secrets(tmp_path, monkeypatch):
    secrets = ["HF_TOKEN", "OPENAI_API_KEY", "AWS_ACCESS_KEY_ID", "MYSECRET", "db_password", "SSH_AUTH_SOCK"]
    harmless = ["TOKENIZERS_PARALLELISM", "AUTHOR", "CUDA_VISIBLE_DEVICES"]
    for name in secrets + harmless:
        monkeypatch.setenv(name, "1")
    seen = tmp_path / "seen"
    program(tmp_path, f"import os; Path({str(seen)!r}).write_text(repr(sorted(os.environ)))").edit(orders(1))
    assert {name for name in secrets + harmless if repr(name) in seen.read_text()} == set(harmless)


def test_what_an_earlier_run_left_passes_for_nobodys_result(tmp_path):
    """Each run's `result` lies in a new folder: names repeat, so that a row would get another's picture."""
    stays = u2s.ExternalEditor(("true", "{input}"), result="{folder}/results/{name}.png", folder=str(tmp_path))
    for result in (stays.result, "{input}/../{name}.png", "results/{name}.png"):
        with pytest.raises(SetupError, match="which are new at every run"):
            dataclasses.replace(stays, result=result).edit(orders(1))
    editor = program(tmp_path, "if np.array(Image.open(path))[0, 0, 1] == 255: continue")
    assert len(editor.edit(orders(1))) == 1
    with pytest.raises(EditFailed, match="no image came back"):
        editor.edit([Edit(picture(corner=(0, 255, 0)))])


def test_a_program_sees_pixels_without_metadata(tmp_path):
    image = picture()
    image.info = {"Comment": "Alice at home", "icc_profile": b"made by Alice"}
    tell = "assert not Image.open(path).info, 'metadata'"
    assert len(program(tmp_path, tell).edit([Edit(image)])) == 1


def test_what_a_program_says_is_in_the_debug_log_alone(tmp_path, caplog):
    caplog.set_level(logging.DEBUG)
    with pytest.raises(PartlyFailed) as caught:
        program(tmp_path, "print('Alice at home'); sys.exit(1)").edit(orders())
    assert "Alice" not in str(caught.value) + "".join(map(str, caught.value.results))
    assert {r.levelname for r in caplog.records if "Alice" in r.getMessage()} == {"DEBUG"}
    assert {r.levelname for r in caplog.records} == {"DEBUG", "WARNING"}


SEEDED = GOOD.replace("array[4:20, 4:20] = 0", "array[4:20, 4:20] = np.random.default_rng(seed).integers(0, 255)")


def test_a_command_that_takes_a_seed_has_each_rows_own_whatever_its_neighbours(tmp_path):
    editor = program(tmp_path, "seed = int(more[0])", SEEDED, more=("{seed}",))
    rows = [*orders(2), Edit(picture(), seed=2**62 + 7)]
    together = [np.asarray(out) for out in editor.edit(rows)]
    for row, out in zip(rows, together, strict=True):
        assert np.array_equal(np.asarray(editor.edit([row])[0]), out)
    again = editor.edit(rows[::-1])
    assert all(np.array_equal(np.asarray(a), b) for a, b in zip(again, together[::-1], strict=True))
    assert len({out[5, 5, 0] for out in together}) > 1


def test_a_file_of_seeds_serves_all_rows_in_one_run(tmp_path):
    count = f"open({str(tmp_path / 'runs')!r}, 'a').write(given + chr(10))\n    "
    look = count + "seed = int(dict(line.split() for line in open(more[0]))[path.stem])"
    editor = program(tmp_path, look, SEEDED, more=("{seeds}",))
    rows = orders(3)
    together = [np.asarray(out) for out in editor.edit(rows)]
    assert len(set((tmp_path / "runs").read_text().split())) == 1
    for row, out in zip(rows, together, strict=True):
        assert np.array_equal(np.asarray(editor.edit([row])[0]), out)


def test_a_further_attempt_adds_its_arguments(tmp_path):
    note = f"open({str(tmp_path / 'said')!r}, 'a').write(' '.join(more) + chr(10))"
    editor = program(tmp_path, note, stronger=(("--a",), ("--b", "1")))
    for strength in range(4):
        editor.edit([Edit(picture(), strength=strength)])
    assert (tmp_path / "said").read_text().split("\n") == ["", "--a", "--b 1", "--b 1", ""]


@pytest.mark.parametrize(
    ("editor", "words"),
    [
        (u2s.ExternalEditor(), "give a tuple"),
        (u2s.ExternalEditor("deface {input}"), "give a tuple"),
        (u2s.ExternalEditor(("deface", "photos")), "must hold {input}"),
        (u2s.ExternalEditor(("no-such-program", "{input}")), "'no-such-program' is not installed"),
        (u2s.ExternalEditor((sys.executable, "{input}"), timeout=0), "timeout=0"),
        (u2s.ExternalEditor((sys.executable, "{input}"), folder="no-such-folder"), "is not a folder"),
        (u2s.Deface(command=("no-deface", "{input}")), "pip install deface"),
        (u2s.DeepPrivacy2(), "set U2S_DEEPPRIVACY2 to the checkout"),
        (u2s.FaceAnonSimple(), "set U2S_FACEANONSIMPLE to the checkout"),
        (u2s.DeepPrivacy2(folder="."), "git clone https://github.com/hukkelas/deep_privacy2"),
    ],
)
def test_what_cannot_work_is_said_before_the_first_row(editor, words, monkeypatch):
    monkeypatch.delenv("U2S_DEEPPRIVACY2", raising=False)
    monkeypatch.delenv("U2S_FACEANONSIMPLE", raising=False)
    with pytest.raises(SetupError, match=words):
        u2s.Anonymize(editor=editor).check()


def test_a_checkout_is_called_in_its_folder_by_its_own_python(tmp_path, monkeypatch):
    """A stand-in for DeepPrivacy2's command line: what is tested is that it is called as its documentation says."""
    python = tmp_path / ".venv" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.symlink_to(sys.executable)
    (tmp_path / "anonymize.py").write_text("""
import json, os, subprocess, sys
json.dump([os.getcwd(), *sys.argv[1:]], open("called", "w"))
""")
    monkeypatch.setenv("U2S_DEEPPRIVACY2", str(tmp_path))
    editor = make("editor", "deepprivacy2", EDITORS)
    editor.check()
    with pytest.raises(EditFailed, match="no image came back"):
        editor.edit([Edit(picture(), seed=2**40 + 3, strength=1)])
    cwd, config, i, given, o, made, seed, value, *rest = json.loads((tmp_path / "called").read_text())
    assert (cwd, config) == (str(tmp_path), "configs/anonymizers/face.py")
    assert (i, o, seed, value) == ("-i", "-o", "--seed", "3")
    assert rest == ["--detection-score-threshold", "0.2"]
    assert Path(given).parent == Path(made).parent


NETS = "src/diffusers/models/referencenet"
STAND_IN = {
    "torch": """
class cuda: is_available = staticmethod(lambda: False)
class Generator:
    def manual_seed(self, seed): self.seed = seed; return self
""",
    "face_alignment": """
class LandmarksType: TWO_D = 2
class FaceAlignment:
    def __init__(self, kind, face_detector, device): pass
    def get_landmarks(self, array): return ["a face"] if array[0, 0, 1] == 255 else None
""",
    "diffusers": """
class AutoencoderKL: from_pretrained = classmethod(lambda *a, **k: 0)
DDPMScheduler = AutoencoderKL
""",
    "transformers": "from diffusers import AutoencoderKL as CLIPImageProcessor\nCLIPVisionModel = CLIPImageProcessor",
    f"{NETS}/referencenet_unet_2d_condition": "from diffusers import DDPMScheduler as ReferenceNetModel",
    f"{NETS}/unet_2d_condition": "from diffusers import DDPMScheduler as UNet2DConditionModel",
    "src/diffusers/pipelines/referencenet/pipeline_referencenet": """
class StableDiffusionReferenceNetPipeline:
    def __init__(self, unet, referencenet, conditioning_referencenet, vae, feature_extractor, image_encoder, scheduler):
        pass
    def to(self, device): return self
""",
    "utils/anonymize_faces_in_image": """
import numpy as np
from PIL import Image
def anonymize_faces_in_image(image, face_alignment, pipe, generator, face_image_size, num_inference_steps,
                             guidance_scale, anonymization_degree):
    assert (face_image_size, num_inference_steps, guidance_scale) == (512, 25, 4.0)
    array = np.array(image)
    for _ in face_alignment.get_landmarks(array):
        array[4:20, 4:20] = generator.seed, 100 * anonymization_degree, 0
    return Image.fromarray(array)
""",
}
"""The names that FaceAnonSimple's README imports, with nothing behind them."""


def test_faceanonsimple_is_called_as_its_readme_says_and_a_photo_without_a_face_fails_alone(tmp_path, monkeypatch):
    for name, source in STAND_IN.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / f"{name}.py").write_text(source)
    (tmp_path / ".venv" / "bin").mkdir(parents=True)
    (tmp_path / ".venv" / "bin" / "python").symlink_to(sys.executable)
    monkeypatch.setenv("U2S_FACEANONSIMPLE", str(tmp_path))
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(sys.path))  # a link to an interpreter forgets its environment
    face = picture(corner=(0, 255, 0))
    for strength, green in ((0, 125), (1, 150)):
        orders = [Edit(face, seed=i, strength=strength) for i in (2**33 + 7, 9)] + [Edit(picture(), seed=1)]
        with pytest.raises(PartlyFailed) as caught:
            make("editor", "faceanonsimple", EDITORS).edit(orders)
        first, second, third = caught.value.results
        assert (first.getpixel((5, 5)), second.getpixel((5, 5))) == ((7, green, 0), (9, green, 0))
        assert "came back as it went in" in str(third)


def test_a_part_is_its_configuration_and_the_program_that_it_runs(tmp_path):
    editor = program(tmp_path)
    assert pickle.loads(pickle.dumps(editor)) == editor
    before = pickle.dumps(u2s.ExternalEditor((str(_executable(tmp_path, "true")), "{input}")))
    assert pickle.dumps(u2s.ExternalEditor((str(_executable(tmp_path, "exit 1")), "{input}"))) != before
    assert str(tmp_path) not in json.dumps(editor.config())


def _executable(folder: Path, line: str) -> Path:
    path = folder / "tool"
    path.write_text(f"#!/bin/sh\n{line}\n")
    path.chmod(0o700)
    return path


# Whole steps: what a program left is looked for everywhere, and redacted.

ERASES = GOOD.replace("array[4:20, 4:20] = 0", "array[(array == (255, 0, 0)).all(2)] = (9, 99, 9)")
RED = u2s.Inspect(detectors=(RedSquares(),))


def anonymized(editor, pictures):
    batch = {"image": [image.copy() for image in pictures]}
    return u2s.Anonymize(inspect=RED, editor=editor, identity=ByPixels())(batch)


@pytest.mark.parametrize("redacts", [True, False])
def test_a_step_publishes_what_is_proven_and_withholds_the_rest(tmp_path, redacts):
    drops = "if np.array(Image.open(path))[0, 0, 1] == 255: continue"
    editor = program(tmp_path, drops, ERASES, redacts=redacts)
    answer = anonymized(editor, [picture(red=True), picture(), picture(red=True, corner=(0, 255, 0))])
    assert answer[c.STATUS] == [c.ANONYMIZED, c.SAFE, c.WITHHELD]
    assert "no image came back" in answer[c.NOTE][2]
    (attempt,) = json.loads(answer[c.PROVENANCE][0])["attempts"]
    assert attempt == {"editor": "ExternalEditor", "redacts": redacts, "strength": 0, "residue": 0}


def test_what_a_redacting_program_left_is_redacted_wherever_it_is(tmp_path):
    moves = GOOD.replace(
        "array[4:20, 4:20] = 0", "array[20:40, 30:60] = 7; array[2:12, 70:90] = (255, 0, 0)"
    )  # out of the box that was found, to where nothing was
    answer = anonymized(program(tmp_path, source=moves, redacts=True), [picture(red=True)])
    assert answer[c.STATUS] == [c.ANONYMIZED]
    attempts = json.loads(answer[c.PROVENANCE][0])["attempts"]
    assert [a["editor"] for a in attempts] == [*["ExternalEditor"] * 3, "Redact"]
    assert [a["residue"] for a in attempts] == [1, 1, 1, 0]


# deface itself.


@pytest.fixture(scope="session")
def deface(tmp_path_factory) -> Path:
    """The program: the one that is here, else one installed into an environment of its own."""
    found = os.environ.get("U2S_DEFACE") or shutil.which("deface")
    if found:
        return Path(found)
    folder = tmp_path_factory.mktemp("deface")
    subprocess.run([sys.executable, "-m", "venv", folder], check=True)
    pip = [folder / "bin" / "python", "-m", "pip", "install", "--quiet"]
    # Its own requirement is OpenCV with windows, which wants libGL; the headless build has the same functions.
    subprocess.run([*pip, "--no-deps", "deface"], check=True)
    needed = ["imageio", "imageio-ffmpeg", "numpy", "opencv-python-headless", "scikit-image", "tqdm"]
    subprocess.run([*pip, *needed, "onnx", "onnxruntime"], check=True)
    return folder / "bin" / "deface"


@pytest.mark.external
def test_deface_paints_a_real_face_over_and_nothing_else(deface):
    face, none = Image.fromarray(data.astronaut()), Image.fromarray(data.coffee())
    editor = u2s.Deface(command=(str(deface), *u2s.Deface().command[1:]))
    editor.check()
    with pytest.raises(PartlyFailed) as caught:
        editor.edit([Edit(face, seed=1), Edit(none, seed=2)])
    out, error = caught.value.results
    changed = (np.asarray(out) != np.asarray(face)).any(2)
    assert (np.asarray(out)[changed] == 0).all()
    assert changed[80:140, 200:250].mean() > 0.95
    assert changed.mean() < 0.2
    assert "came back as it went in" in str(error)


@pytest.mark.external
def test_deface_from_the_command_line_over_a_folder_of_photos(deface, photos, tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(deface.parent), prepend=os.pathsep)
    out = tmp_path / "out"
    assert main(["anonymize", str(photos), "--out", str(out), "--editor", "deface", "-q"]) == 0
    public = pq.read_table(next((out / "data").glob("*.parquet")))
    private = pq.read_table(next((out / "private").rglob("*.parquet")))
    rows = {row[c.SOURCE]: row for row in private.to_pylist()}
    assert len(rows) == 9
    attempts = {
        name: [a["editor"] for a in json.loads(row[c.PROVENANCE])["attempts"]]
        for name, row in rows.items()
        if row[c.STATUS] == c.ANONYMIZED
    }
    assert any("Deface" in editors for editors in attempts.values())
    assert public.num_rows == sum(row[c.STATUS] != c.WITHHELD for row in rows.values())
