"""Parameters of a tiny detector."""

from pipeline.detectors.mask_rcnn.training import MaskRcnnParameters

PARAMETERS = {
    "architecture": {
        "backbone": "tf_efficientnet_lite0",
        "finest_stride": 4,
        "min_size": 48,
        "max_size": 96,
        "anchor_size": 8,
        "channels": 8,
        "mask_layers": 1,
        "mask_size": 28,
        "box_features": 16,
        "rpn_post_nms_top_n": 20,
        "box_batch_size_per_image": 8,
    },
    "weights": "none",
    "trainable_backbone_layers": 5,
    "hflip_prob": 0.5,
    "color_jitter": 0.2,
    "max_background_iou": 1.0,
    "pseudo_masks": "sampler",
    "rounds": 1,
    "min_relative_score": 0.5,
    "min_vote_iou": 1.0,
    "max_overlap": 0.6,
    "schedule": {
        "epochs": 2,
        "batch_size": 2,
        "optimizer": "sgd",
        "learning_rate": 0.01,
        "backbone_lr_factor": 0.1,
        "weight_decay": 0.0001,
        "max_grad_norm": 1.0,
    },
    "seed": 3,
}


def parameters(**changes):
    return MaskRcnnParameters.parse({**PARAMETERS, **changes}, "mask_rcnn")
