"""The command as a user types it."""

import json
import subprocess
import sys

import pytest

import u2s_datasets as u2s
from tests.helpers.fakes import RedSquares, picture
from u2s_datasets.cli.anonymize import OPTIONS
from u2s_datasets.cli.main import _parser, main

TYPED = {
    "profile_name": (["--profile", "paper"], "paper"),
    "detectors": (["--detectors", "faces, text"], ["faces", "text"]),
    "editor": (["--editor", "solid"], "solid"),
    "detector_options": (["--detector-option", "faces.flag_threshold=0.3"], {"faces": {"flag_threshold": 0.3}}),
    "editor_options": (["--editor-option", "cells=3", "--editor-option", "lora=A"], {"cells": 3, "lora": "A"}),
    "identity": (["--identity", "dlib_faces"], "dlib_faces"),
    "seed": (["--seed", "0"], 0),
    "format": (["--format", "png"], "png"),
    "prior": (["--prior", "class_name"], "class_name"),
    "label_column": (["--label-column", "label"], "label"),
    "verify": (["--no-verify"], False),
    "models": (["--model", "edit=A", "--model", "inspect=B"], {"edit": "A", "inspect": "B"}),
    "backend": (["--backend", "http://127.0.0.1:8000/v1?a=b"], "http://127.0.0.1:8000/v1?a=b"),
    "small": (["--small"], True),
    "dtype": (["--dtype", "float16"], "float16"),
    "criteria": (["--criteria", "people"], "people"),
    "threshold": (["--threshold", "0.5"], 0.5),
    "method": (["--method", "choose"], "choose"),
    "groups": (["--groups", "A,B"], ("A", "B")),
    "scores": (["--score", "clip", "--score", "faces=A"], {"clip": "", "faces": "A"}),
    "above": (["--above", "clip_ratio=0.7"], {"clip_ratio": 0.7}),
    "at_most": (["--at-most", "faces_same=0"], {"faces_same": 0.0}),
    "device": (["--device", "cuda:1"], "cuda:1"),
    "split": (["--split", "test"], "test"),
    "image_column": (["--image-column", "photo"], "photo"),
    "keep": (["--keep", "label"], ["label"]),
    "allow": (["--allow", ""], []),
    "text_check": (["--text-check", "presidio"], "presidio"),
    "text_check_options": (["--text-check-option", "score_threshold=0.5"], {"score_threshold": 0.5}),
    "limit": (["--limit", "3"], 3),
    "secret": (["--secret", "key"], "key"),
    "shard_size": (["--shard-size", "8"], 8),
    "num_proc": (["--num-proc", "2"], 2),
    "ray": (["--ray"], True),
    "ray_address": (["--ray-address", "auto"], "auto"),
    "pools": (["--pool", "pipeline:size=2,num_cpus=0.5"], {"pipeline": u2s.Pool(size=2, num_cpus=0.5)}),
    "dry_run": (["--dry-run"], True),
}


def test_every_option_of_a_run_has_its_flag():
    assert set(TYPED) == set(OPTIONS.fields()) - {"progress"}
    words = [word for typed, _ in TYPED.values() for word in typed]
    typed = OPTIONS.given(_parser().parse_args(["anonymize", "photos", "--out", "safe", *words]), TYPED)
    assert typed == {name: value for name, (_, value) in TYPED.items()}
    plain = OPTIONS.given(_parser().parse_args(["anonymize", "photos", "--out", "safe"]), TYPED)
    assert plain == {name: OPTIONS.fields()[name].default for name in plain}


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["anonymize", "nowhere", "--out", "x"], "'nowhere'"),
        (["anonymize", ".", "--out", "x", "--profile", "best"], "unknown profile 'best'"),
        (["anonymize", ".", "--out", "x", "--editor-option", "cells"], "--editor-option 'cells'"),
        (["anonymize", ".", "--out", "x", "--pool", "pipeline:size=2"], "pools for pipeline (--pool) need ray=True"),
        (["anonymize", ".", "--out", "x", "--pool", "pipeline"], "--pool 'pipeline'; expected STAGE:NAME=VALUE"),
        (["anonymize", ".", "--out", "x", "--pool", "pipeline:sise=2"], "the names size, num_cpus, num_gpus, batch"),
        (["anonymize", ".", "--out", "x", "--ray-address", "10.0.0.1:6379"], "ray_address='10.0.0.1:6379'"),
        (["anonymize", ".", "--out", "x", "--editor-option", "steps=3"], "no option 'steps'"),
        (["anonymize", ".", "--out", "x", "--editor-option", "cells=0"], "cells=0"),
        (["anonymize", ".", "--out", "x", "--dtype", "int3"], "'cpu' has no models"),
        (["anonymize", ".", "--out", "x", "--prior", "private_caption"], "Redact reads no text"),
        (["anonymize", ".", "--out", "x", "--criteria", "people"], "'cpu' has no language models"),
        (["vispr", "--root", ".", "--out", "x", "--criteria", ","], "--criteria ',' names nothing"),
        (
            ["vispr", "--root", ".", "--out", "x", "--seed", "-1"],
            "invalid seed=-1; expected a whole number of 0 or more",
        ),
        (["vispr", "--root", ".", "--out", "x", "--backend", "vllm"], "'cpu' has no language models"),
        (["vispr", "--root", ".", "--out", "x", "--profile", "paper", "--model", "edit=y"], "role 'edit' is not"),
        (["anonymize", "", "--out", "x"], "'' names no folder; give one"),
        (["anonymize", ".", "--out", ""], "'' names no folder; give one"),
        (["anonymize", ".", "--out", "x", "--editor", ""], "unknown editor ''"),
        (
            ["anonymize", ".", "--out", "/dev/null/x"],
            "output folder '/dev/null/x': '/dev/null' is not a folder; use",
        ),
        (["anonymize", ".", "--out", "/dev/null/x", "--dry-run"], "'/dev/null' is not a folder; use a folder"),
        (["anonymize", ".", "--out", "/proc/u2s/x"], "cannot create the output folder '/proc/u2s/x': "),
        (["anonymize", ".", "--out", f"/tmp/{'x' * 300}"], "File name too long; use a folder you may write to"),
        (["report", "nowhere"], "no finished run in 'nowhere'"),
        (["bench", "--rows", "3"], "rows=3"),
    ],
)
def test_wrong_words_exit_with_two_and_one_line(words, message, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    picture().save("one.png")
    assert main(words) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("u2s: ") and message in captured.err and captured.err.count("\n") == 1


class Stopped(RedSquares):
    """Ctrl-C while it is made."""

    def __init__(self):
        raise KeyboardInterrupt


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["anonymize", ".", "--out", "x"], "\nu2s: stopped; the same command goes on where it left off\n"),
        (["bench", "."], "\nu2s: stopped\n"),
    ],
)
def test_ctrl_c_promises_to_go_on_where_that_is_so(words, says, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    picture().save("one.png")
    assert main([*words, "--detectors", f"{__name__}:Stopped"]) == 130
    assert capsys.readouterr().err == says


def test_doctor_and_profiles_tell_what_is_here(capsys):
    assert main(["doctor"]) == 0
    printed = capsys.readouterr().out
    assert printed.count(" works") == 4
    assert "extra models" in printed
    assert main(["profiles"]) == 0
    assert "does not look for" in capsys.readouterr().out


@pytest.mark.slow
def test_bench_prints_a_table_and_a_line_of_json():
    call = [sys.executable, "-m", "u2s_datasets.cli.main", "bench", "--rows", "18", "--detectors", "faces"]
    lines = subprocess.run(call, check=True, capture_output=True, text=True).stdout.splitlines()
    facts = json.loads(lines[-1])
    assert facts["rows"] == 18
    assert facts["whole_over_bare"] > 0
    assert set(facts["stages"]) == {"decode", "inspect", "caption", "instruct", "anonymize", "score"}


@pytest.mark.slow
def test_versus_runs_the_other_command_on_the_same_photos(tmp_path, capsys):
    other = tmp_path / "other"
    other.write_text('#!/bin/sh\nfor f in "$@"; do test -s "$f" || exit 3; done\n')
    other.chmod(0o755)
    assert main(["bench", "--rows", "4", "--versus", str(other)]) == 0
    facts = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert facts["rows"] == 4
    assert set(facts["times_as_fast"]) == {"other", "verified", "unverified"}
    assert main(["bench", "--versus", "no-such-program"]) == 2


def test_without_ray_there_is_one_line_and_no_run(photos, tmp_path):
    out = tmp_path / "safe"
    program = "import sys; sys.modules['ray'] = None; from u2s_datasets.cli.main import main; sys.exit(main())"
    call = [sys.executable, "-c", program, "anonymize", str(photos), "--out", str(out), "--ray"]
    done = subprocess.run(call, capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stderr == "u2s: ray is not installed; run: pip install 'u2s_datasets[ray]'\n"
    assert not out.exists()
