"""Random color augmentation."""

import numpy as np
from torch import Tensor
from torchvision.transforms.v2 import functional


def jitter_colors(image: Tensor, rng: np.random.Generator, strength: float) -> Tensor:
    """Randomly change the brightness, contrast and saturation of an image, uint8 (3, h, w).

    Each is multiplied by a factor that is drawn uniformly from 1 - `strength` to 1 + `strength`.
    """
    brightness, contrast, saturation = rng.uniform(1 - strength, 1 + strength, 3)
    image = functional.adjust_brightness(image, brightness)
    image = functional.adjust_contrast(image, contrast)
    jittered: Tensor = functional.adjust_saturation(image, saturation)
    return jittered
