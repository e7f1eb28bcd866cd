"""Parameters of a small dataset in VOC's form."""

from pipeline.dataset.index import DatasetParameters

VALUES = {
    "kind": "voc",
    "path": "photographs",
    "train": "train",
    "val": "val",
    "classes": ["cat", "dog"],
    "tags": "photographs/ImageSets/Main",
    "val_fraction": 0.2,
}


def parameters(**changed):
    return DatasetParameters.parse({**VALUES, **changed}, "dataset")
