"""Masks for the tools in which people correct them: CVAT, Label Studio and FiftyOne.

People drag the corners of polygons, so the masks become polygons with few corners. These have no
holes: holes are filled. See docs/correct-masks.md for what each tool reads.
"""

import csv
import io
import os
from collections.abc import Sequence
from operator import attrgetter
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote
from xml.sax.saxutils import quoteattr

import numpy as np
from numpy.typing import NDArray
from pycocotools import mask as coco_mask

from pipeline.artifacts.coco import CocoAnnotations
from pipeline.artifacts.instances import Instances
from pipeline.common import files, masks
from pipeline.delivery.formats import Prediction, linked, polygons

_LOCAL_FILES = "/data/local-files/?d="
_LABELING = """\
<View>
  <Image name="image" value="$image" zoom="true"/>
  <PolygonLabels name="label" toName="image">
{labels}
  </PolygonLabels>
</View>
"""


class _Photograph(NamedTuple):
    """How sure the masks of a photograph are, its file, their number, and its task."""

    score: float
    file: str
    masks: int
    task: dict[str, Any]


class PreAnnotations:
    """Collects masks photograph by photograph, and writes them for people to correct.

    - `labels.json`: COCO annotations with polygons, one for each part, for CVAT and FiftyOne
    - `cvat_labels.json`: the labels of a CVAT task
    - `label_studio.json` and `label_studio.xml`: tasks of Label Studio and their labeling
      configuration. A region is a single polygon, so the parts of an object are linked by lines of
      zero width.
    - `order.csv`: the photographs, those whose masks are least sure first

    Parameters
    ----------
    classes : names of the classes.
    folder : the photographs; their names are relative to it.
    description : of the annotations, for the `info` of `labels.json`.
    """

    def __init__(self, classes: Sequence[str], folder: Path, description: str) -> None:
        self._classes, self._folder = classes, folder
        self._coco = CocoAnnotations(classes, description)
        self._segmentations: list[list[list[float]]] = []
        self._photographs: list[_Photograph] = []
        self._iou: list[float] = []

    def __len__(self) -> int:
        return len(self._coco)

    def add(
        self, file: str, height: int, width: int, instances: Instances, missing: int = 0
    ) -> None:
        """Add a photograph and its masks.

        Parameters
        ----------
        file : relative to the folder.
        height, width : of the upright photograph, in pixels.
        instances : their score is how sure a mask is.
        missing : number of classes that the photograph is known to show, but that have no mask.
        """
        decoded = masks.decode(instances.masks, height, width)
        outlines = [polygons(mask, tolerance(int(mask.sum()))) for mask in decoded]
        found = instances.masks, instances.label, instances.score
        self._coco.add(file, height, width, *found)
        for mask, outline in zip(instances.masks, outlines, strict=True):
            segmentation = [polygon.ravel().round(2).tolist() for polygon in outline]
            drawn = coco_mask.merge(coco_mask.frPyObjects(segmentation, height, width))
            self._segmentations.append(segmentation)
            self._iou.append(float(masks.iou([drawn], [mask])[0, 0]))
        regions = [
            _region(number, self._classes[label], score, linked(outline) / [width, height])
            | {"original_width": width, "original_height": height}
            for number, (label, score, outline) in enumerate(
                zip(instances.label, instances.score.tolist(), outlines, strict=True), 1
            )
        ]
        score = sureness(instances.score, missing)
        task = _task(quote(os.fsencode(f"{self._folder.name}/{file}")), score, regions)
        self._photographs.append(_Photograph(score, file, len(regions), task))

    def median_iou(self) -> float | None:
        """Return the median IoU of the polygons and their masks; None without masks."""
        return round(float(np.median(self._iou)), 4) if self._iou else None

    def write(self, out: Path) -> None:
        """Write all files into a folder."""
        content = self._coco.content()
        content["info"] = content["info"] | {"median_iou_of_polygons": self.median_iou()}
        pairs = zip(content["annotations"], self._segmentations, strict=True)
        content["annotations"] = [entry | {"segmentation": parts} for entry, parts in pairs]
        files.write_json(out / "labels.json", content)
        names = [{"name": name, "attributes": []} for name in self._classes]
        files.write_json(out / "cvat_labels.json", names, indent=1)
        order = sorted(self._photographs, key=attrgetter("score", "file"))
        files.write_json(out / "label_studio.json", [photograph.task for photograph in order])
        labels = "\n".join(f"    <Label value={quoteattr(name)}/>" for name in self._classes)
        files.write_bytes(out / "label_studio.xml", _LABELING.format(labels=labels).encode())
        files.write_bytes(out / "order.csv", _table(order))


def _task(address: str, score: float, regions: list[dict[str, Any]]) -> dict[str, Any]:
    """Return a task of Label Studio: a photograph and one prediction."""
    return {
        "data": {"image": f"{_LOCAL_FILES}{address}"},
        "predictions": [{"model_version": "wise", "score": score, "result": regions}],
    }


def _region(number: int, name: str, score: float, polygon: NDArray[np.float64]) -> dict[str, Any]:
    """Return a region of a task; the polygon is in fractions of width and height."""
    return {
        "id": str(number),
        "type": "polygonlabels",
        "from_name": "label",
        "to_name": "image",
        "image_rotation": 0,
        "score": score,
        "value": {
            "points": (100 * polygon.clip(0, 1)).round(3).tolist(),
            "closed": True,
            "polygonlabels": [name],
        },
    }


class PreAnnotationFiles:
    """Collects predictions, and writes `pre-annotations/` with the files of `PreAnnotations`.

    Parameters
    ----------
    classes : names of the classes.
    photographs : paths of all photographs; names are relative to their common folder.
    """

    def __init__(self, classes: Sequence[str], photographs: Sequence[Path]) -> None:
        parents = [os.path.abspath(path.parent) for path in photographs]
        self._folder = Path(os.path.commonpath(parents))
        self._collected = PreAnnotations(classes, self._folder, "instances predicted by WISE")

    def add(self, prediction: Prediction) -> None:
        """Add a photograph and its instances."""
        file = Path(os.path.abspath(prediction.file)).relative_to(self._folder).as_posix()
        height, width = prediction.pixels.shape[:2]
        self._collected.add(file, height, width, prediction.instances)

    def write(self, out: Path) -> None:
        """Write all files into a folder."""
        self._collected.write(out / "pre-annotations")


def tolerance(area: int) -> float:
    """Return the maximum distance of a polygon from the edge of a mask, in pixels.

    One pixel is as far as the steps of a slanted edge are from a line; less and each step has its
    corners. Small masks are followed more closely, and large ones less: to 1 % of their size, the
    root of their area.
    """
    size = float(np.sqrt(area))
    return max(min(1.0, 0.05 * size), 0.01 * size)


def sureness(score: NDArray[np.floating[Any]], missing: int) -> float:
    """Return how sure the masks of a photograph are, from 0 to 1.

    It is the mean score of its masks and of the classes without a mask, which count as 0; 1 if
    there is nothing to correct.

    Parameters
    ----------
    score : of each mask, shape (n,), 0 to 1.
    missing : number of classes that the photograph shows, but that have no mask.
    """
    expected = len(score) + missing
    return float(score.sum() / expected) if expected else 1.0


def _table(photographs: Sequence[_Photograph]) -> bytes:
    """Return a CSV table of photographs, how sure their masks are, and how many there are."""
    lines = io.StringIO()
    # Names in quotes: otherwise, a carriage return in a name would end the row.
    table = csv.writer(lines, lineterminator="\n", quoting=csv.QUOTE_NONNUMERIC)
    table.writerow(["image", "score", "masks"])
    for score, file, count, _ in photographs:
        # The same file, but no formula for a spreadsheet.
        name = f"./{file}" if files.is_formula(file) else file
        table.writerow([name, round(score, 4), count])
    return lines.getvalue().encode("utf-8", "backslashreplace")
