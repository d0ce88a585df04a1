"""Face encoders: ours on a tiny ONNX network, insightface's against insightface called directly."""

import numpy as np
import pytest
import skimage.data

from u2s_datasets.errors import MissingExtra, MissingWeights
from u2s_datasets.parts.detectors.faces import Faces
from u2s_datasets.parts.metrics.face_encoders import InsightFace, OnnxFaces, square
from u2s_datasets.parts.metrics.privacy import match_faces

pytest.importorskip("onnx", reason="onnx is not installed: pip install onnx")

from tests.helpers.tiny_models import metrics as tiny_metrics


@pytest.fixture(scope="module")
def network(tmp_path_factory):
    return tiny_metrics.recognition(tmp_path_factory.mktemp("faces") / "face.onnx")


def test_every_face_of_a_photo_has_an_embedding_of_its_crop(network):
    photo, nobody = skimage.data.astronaut(), np.full((64, 64, 3), 128, np.uint8)
    part = OnnxFaces(str(network))
    part.check()
    (faces, none) = part.embed([photo, nobody])
    assert len(faces) == 1 and none == []
    crop = square(photo, faces[0].box, 112, part.margin) / 127.5 - 1
    pooled = crop.reshape(8, 14, 8, 14, 3).mean(axis=(1, 3)).transpose(2, 0, 1).reshape(-1)
    matrix = np.random.default_rng(0).normal(size=(192, 16)).astype(np.float32)
    assert np.allclose(faces[0].embedding, pooled @ matrix, atol=1e-3)
    same = match_faces(faces, faces)
    assert (same.matched, same.same, same.new) == (1, 1, 0)
    assert same.similarity == pytest.approx(1.0, abs=1e-6)


def test_a_square_of_the_whole_image_is_the_image():
    image = np.random.default_rng(0).integers(0, 255, (20, 20, 3), dtype=np.uint8)
    assert np.array_equal(square(image, (0, 0, 20, 20), 20, 1.0), image)
    assert square(image, (15, 15, 30, 30), 8, 1.0)[-1, -1].tolist() == [0, 0, 0]


def test_absent_networks_say_what_to_do(tmp_path):
    with pytest.raises(MissingWeights, match=r"no file '.*absent.onnx'"):
        OnnxFaces(str(tmp_path / "absent.onnx")).check()
    with pytest.raises((MissingExtra, MissingWeights), match=r"non-commercial|pip install 'u2s_datasets"):
        InsightFace(root=str(tmp_path)).check()


@pytest.mark.filterwarnings("ignore:.estimate. is deprecated:FutureWarning")  # insightface calls it
def test_insightface_gives_what_insightface_gives(tmp_path):
    pytest.importorskip("insightface", reason="insightface is not installed: pip install 'u2s_datasets[faces]'")
    from insightface.app import FaceAnalysis

    pack = tmp_path / "models" / "tiny"
    tiny_metrics.detection(pack / "det.onnx")
    tiny_metrics.recognition(pack / "rec.onnx")
    photo = skimage.data.astronaut()
    analysis = FaceAnalysis(name="tiny", root=str(tmp_path), providers=["CPUExecutionProvider"])
    analysis.prepare(ctx_id=-1, det_size=(640, 640))
    expected = analysis.get(np.ascontiguousarray(photo[:, :, ::-1]))
    part = InsightFace("tiny", root=str(tmp_path), device="cpu")
    part.check()
    (found,) = part.embed([photo])
    assert len(found) == len(expected) == 1
    assert np.allclose(found[0].embedding, expected[0].embedding, atol=1e-6)
    assert found[0].box == pytest.approx(expected[0].bbox.tolist())


def test_the_detector_is_the_users_own(network):
    blind = OnnxFaces(str(network), detector=Faces(flag_threshold=0.99))
    assert blind.embed([np.full((64, 64, 3), 128, np.uint8)]) == [[]]
