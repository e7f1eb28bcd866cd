"""Color jitter: none without strength, of the strength that is asked for, by its generator."""

import numpy as np
import torch

from pipeline.training.augmentation import jitter_colors

PIXELS = torch.randint(0, 256, (3, 20, 20), dtype=torch.uint8)


def jittered(image, strength, seed=0):
    return jitter_colors(image, np.random.default_rng(seed), strength)


def test_without_strength_nothing_changes():
    torch.testing.assert_close(jittered(PIXELS, 0.0), PIXELS, rtol=0, atol=1)


def test_a_grey_image_stays_of_one_color_within_the_strength():
    for seed in range(20):
        image = jittered(torch.full((3, 8, 8), 100, dtype=torch.uint8), 0.3, seed)
        assert image.unique().numel() == 1
        assert 69 <= int(image[0, 0, 0]) <= 131


def test_the_generator_alone_decides():
    assert torch.equal(jittered(PIXELS, 0.3, seed=1), jittered(PIXELS, 0.3, seed=1))
    assert not torch.equal(jittered(PIXELS, 0.3, seed=1), jittered(PIXELS, 0.3, seed=2))
