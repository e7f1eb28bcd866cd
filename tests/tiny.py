"""Networks small enough to be built and run in a test."""

from pipeline.networks.mask_rcnn import Architecture, MaskRcnnDescription
from pipeline.networks.sharpmask import Description

ARCHITECTURE = Architecture(
    backbone="tf_efficientnet_lite0",
    min_side=64,
    max_side=128,
    anchor=8.0,
    channels=8,
    mask_layers=1,
    box_features=16,
    proposals=20,
    rois=8,
)
MASK_RCNN = MaskRcnnDescription(classes=("cat", "dog"), architecture=ARCHITECTURE)
SHARPMASK = Description(
    backbone="tf_efficientnet_lite0",
    features=8,
    code=16,
    score=8,
    lateral=4,
    refinement=8,
    trained_on="3 instance masks on 2 images of a test",
)
