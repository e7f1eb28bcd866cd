"""Parameters with which every stage runs in seconds."""

import yaml

from tests.support import ROOT


def tiny_parameters():
    """The embedded default with fewer of everything."""
    parameters = yaml.safe_load((ROOT / "presets" / "scenes.yaml").read_text())
    one_epoch = {"epochs": 1, "batch_size": 4}
    parameters["scenes"] |= {"train": 2, "val": 1, "source": 1}
    parameters["dataset"]["path"] = "photographs/VOC2012"
    parameters["dataset"]["tags"] = "photographs/VOC2012/ImageSets/Main"
    parameters["prm"]["image_size"] = 96
    parameters["prm"]["schedule"] |= {**one_epoch, "backbone_lr_factor": 0.25}
    parameters["peaks"]["scales"] = []
    parameters["sharpmask"] |= {
        "path": "photographs/source",
        "start": "none",
        "feature_channels": 8,
        "code_channels": 16,
        "score_channels": 16,
        "lateral_channels": 8,
        "refinement_channels": 8,
        "samples_per_epoch": 8,
    }
    parameters["sharpmask"]["deepmask"] |= one_epoch
    parameters["sharpmask"]["sharpening"] |= one_epoch
    parameters["proposals"]["max_proposals"] = 40
    parameters["proposals"]["sharpmask"]["max_scale"] = -0.5
    parameters["sampler"]["draws_per_peak"] = 1
    parameters["mask_rcnn"]["architecture"] |= {
        "finest_stride": 4,
        "min_size": 64,
        "max_size": 96,
        "anchor_size": 16.0,
        "channels": 16,
        "box_features": 16,
        "rpn_post_nms_top_n": 20,
        "box_batch_size_per_image": 16,
    }
    parameters["mask_rcnn"]["schedule"] |= one_epoch
    parameters["predictions"]["min_score"] = 0.0
    parameters["community"] |= {"min_sizes": [64], "max_size": 96, "mask_regions": 8}
    parameters["community"]["architecture"] |= {"cells": 14, "width": 8}
    parameters["community"]["schedule"] |= one_epoch
    parameters["community_predictions"] |= {"min_sizes": [64], "max_size": 96}
    return parameters
