import shutil
import subprocess
import sys

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from pipeline.common import masks
from pipeline.common.errors import InputError
from pipeline.execution.pool import ordered_map
from pipeline.proposals import sam
from pipeline.proposals.sam import SamParameters, SamProposer, supervision
from tests.support import ROOT

transformers = pytest.importorskip("transformers", reason="pip install '.[sam]'")

SIDE = 128  # of the input of the small model
CARD = "---\nlicense: apache-2.0\n---\nA SAM 2 with random weights.\n"
PARAMETERS = SamParameters(points_per_side=3, nms_threshold=1.0)


def small_model():
    """A SAM 2 of 190,000 parameters."""
    config = transformers.Sam2Config(
        vision_config=transformers.Sam2VisionConfig(
            backbone_config=transformers.Sam2HieraDetConfig(
                hidden_size=12,
                image_size=[SIDE, SIDE],
                blocks_per_stage=[1, 1, 1, 1],
                embed_dim_per_stage=[12, 24, 48, 96],
                num_attention_heads_per_stage=[1, 2, 4, 8],
            ),
            backbone_channel_list=[96, 48, 24, 12],
            backbone_feature_sizes=[[32, 32], [16, 16], [8, 8]],
            fpn_hidden_size=32,
        ),
        prompt_encoder_config=transformers.Sam2PromptEncoderConfig(image_size=SIDE, hidden_size=32),
        mask_decoder_config=transformers.Sam2MaskDecoderConfig(
            hidden_size=32, mlp_dim=64, num_attention_heads=4, iou_head_hidden_dim=32
        ),
    )
    torch.manual_seed(0)
    model = transformers.Sam2Model(config).eval()
    with torch.no_grad():
        for weights in model.parameters():
            if weights.ndim > 1:  # the initial ones are so small that all points give one mask
                weights.normal_(0, weights[0].numel() ** -0.5)
    return model


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """A folder as the hub has it: model, processor and model card."""
    folder = tmp_path_factory.mktemp("sam2")
    small_model().save_pretrained(folder)
    resized = transformers.Sam2ImageProcessor(
        size={"height": SIDE, "width": SIDE}, mask_size={"height": SIDE // 4, "width": SIDE // 4}
    )
    transformers.Sam2Processor(resized).save_pretrained(folder)
    (folder / "README.md").write_text(CARD)
    return folder


@pytest.fixture(scope="module")
def photograph(tmp_path_factory):
    path = tmp_path_factory.mktemp("photographs") / "noise.png"
    noise = np.random.default_rng(0).integers(0, 255, (9, 12, 3), np.uint8)
    Image.fromarray(noise).resize((120, 90)).save(path)
    return path


def test_the_masks_of_every_point_are_those_of_the_model(weights, photograph):
    """Each point alone, as in the documentation of transformers."""
    proposals = SamProposer(weights, PARAMETERS, 100)(photograph)
    model = transformers.Sam2Model.from_pretrained(weights)
    processor = transformers.Sam2Processor.from_pretrained(weights)
    expected = []
    for y in (15.0, 45.0, 75.0):
        for x in (20.0, 60.0, 100.0):
            inputs = processor(
                images=Image.open(photograph), input_points=[[[[x, y]]]], return_tensors="pt"
            )
            with torch.inference_mode():
                found = model(**inputs)
            drawn = processor.post_process_masks(found.pred_masks, inputs["original_sizes"])[0]
            expected += zip(found.iou_scores.flatten().tolist(), drawn[0].numpy(), strict=True)
    expected = sorted((pair for pair in expected if pair[1].any()), key=lambda pair: -pair[0])
    assert 9 < len(expected) <= 27
    np.testing.assert_allclose(proposals.score, [score for score, _ in expected], atol=1e-5)
    drawn = masks.decode(proposals.masks, 90, 120)
    differing = (drawn != np.array([mask for _, mask in expected])).mean()
    assert differing < 1e-3  # logits are kept in half precision
    assert len({mask.tobytes() for mask in drawn}) > 9


def test_as_many_as_wanted_by_descending_score_without_similar_ones(weights, photograph):
    everything = SamProposer(weights, PARAMETERS, 100)(photograph)
    parameters = SamParameters(points_per_side=3, nms_threshold=0.5)
    some = SamProposer(weights, parameters, 100)(photograph)
    assert 1 < len(some.masks) < len(everything.masks)
    overlaps = masks.iou(some.masks, some.masks) - np.eye(len(some.masks))
    assert overlaps.max() < 0.55  # suppressed at the resolution of the mask decoder
    assert (np.diff(some.score) <= 0).all()
    fewer = SamProposer(weights, parameters, 2)(photograph)
    assert fewer.masks == some.masks[:2]


def test_the_same_on_workers(weights, photograph):
    propose = SamProposer(weights, PARAMETERS, 100)
    (there,) = ordered_map(propose, [photograph], 2)
    assert there.masks == propose(photograph).masks


def test_the_store_says_supervision_and_license(weights, tmp_path):
    assert supervision(weights, "") == "masks of SA-1B and SA-V (SAM 2, license: apache-2.0)"
    assert supervision(weights, "my cells") == "my cells (SAM 2, license: apache-2.0)"
    assert supervision(tmp_path, "").endswith("license: not stated)")
    (tmp_path / "README.md").write_text("---\nlicense: [\n---\n")
    with pytest.raises(InputError, match=r"README.md: not a model card"):
        supervision(tmp_path, "")


def test_a_folder_that_is_no_model_is_one_clear_line(weights, tmp_path):
    with pytest.raises(InputError, match=r"no such folder; for example: hf download facebook/sam2"):
        supervision(tmp_path / "missing", "")
    with pytest.raises(InputError, match="not a SAM 2"):
        sam.load_sam(tmp_path)
    shutil.copytree(weights, tmp_path, dirs_exist_ok=True)
    (file,) = tmp_path.glob("*.safetensors")
    state = {key: value for key, value in load_file(file).items() if "mask_decoder" not in key}
    save_file(state, file, metadata={"format": "pt"})
    with pytest.raises(InputError, match=r"not a SAM 2 \(no mask_decoder"):
        sam.load_sam(tmp_path)


def test_without_the_extra_the_command_is_named():
    code = (
        "import sys; sys.modules['transformers'] = None\n"
        "from pathlib import Path\n"
        "from pipeline.proposals.sam import supervision\n"
        "supervision(Path('.'), '')"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert "needs transformers: pip install '.[sam]'" in done.stderr.splitlines()[-1]
