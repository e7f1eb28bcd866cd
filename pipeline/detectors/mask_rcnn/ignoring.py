"""Training regions that are neither object nor background: they may be objects that are not known.

Not in the papers. Pseudo masks miss objects. A region on a missed object that counts as background
teaches the detector to miss it too.
"""

from collections.abc import Mapping, Sequence

from torch import Tensor
from torchvision.models.detection.roi_heads import RoIHeads
from torchvision.models.detection.rpn import RegionProposalNetwork
from torchvision.ops import box_iou

BACKGROUND, IGNORED = 0, -1  # labels of regions, as torchvision's samplers read them


class IgnoringProposalNetwork(RegionProposalNetwork):  # type: ignore[misc]
    """torchvision's RPN, which ignores the anchors that `ignore_possible_objects` names.

    Targets have one more entry if `max_background_iou` is below 1: `alternatives`, float32 (k, 4),
    boxes x1 y1 x2 y2 of possible objects.
    """

    max_background_iou = 1.0

    def assign_targets_to_anchors(
        self, anchors: list[Tensor], targets: list[dict[str, Tensor]]
    ) -> tuple[list[Tensor], list[Tensor]]:
        """Label anchors 1 (object), 0 (background) or -1 (ignored), and match them with boxes."""
        labels, boxes = super().assign_targets_to_anchors(anchors, targets)
        ignore_possible_objects(labels, anchors, targets, self.max_background_iou)
        return labels, boxes


class IgnoringHeads(RoIHeads):  # type: ignore[misc]
    """torchvision's RoI heads, with targets and ignored regions as `IgnoringProposalNetwork`."""

    max_background_iou = 1.0
    _targets: Sequence[Mapping[str, Tensor]] = ()

    def select_training_samples(
        self, proposals: list[Tensor], targets: list[dict[str, Tensor]]
    ) -> tuple[list[Tensor], list[Tensor], list[Tensor], list[Tensor]]:
        """Sample regions; return them with their objects, labels and regression targets."""
        self._targets = targets
        selected: tuple[list[Tensor], list[Tensor], list[Tensor], list[Tensor]]
        selected = super().select_training_samples(proposals, targets)
        return selected

    def assign_targets_to_proposals(
        self, proposals: list[Tensor], gt_boxes: list[Tensor], gt_labels: list[Tensor]
    ) -> tuple[list[Tensor], list[Tensor]]:
        """Match regions with objects, and label them: 0 is the background, -1 ignored."""
        matched, labels = super().assign_targets_to_proposals(proposals, gt_boxes, gt_labels)
        ignore_possible_objects(labels, proposals, self._targets, self.max_background_iou)
        return matched, labels


def ignore_possible_objects(
    labels: Sequence[Tensor],
    regions: Sequence[Tensor],
    targets: Sequence[Mapping[str, Tensor]],
    max_background_iou: float,
) -> None:
    """Set the label of background regions to -1 in place if they may be objects.

    Parameters
    ----------
    labels : for each image, of its n regions, (n,).
    regions : for each image, boxes x1 y1 x2 y2, float32 (n, 4).
    targets : for each image, with `alternatives`: boxes of possible objects, float32 (k, 4).
    max_background_iou : maximum IoU of a background region with a possible object; 1: no limit.
    """
    if max_background_iou == 1:
        return
    for label, boxes, target in zip(labels, regions, targets, strict=True):
        background = (label == BACKGROUND).nonzero()[:, 0]
        if len(target["alternatives"]):
            best = box_iou(boxes[background], target["alternatives"]).amax(1)
            label[background[best > max_background_iou]] = IGNORED
