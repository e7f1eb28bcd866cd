"""The order of the samples: the same wherever it starts, and with images of like shape together."""

import numpy as np
import pytest

from pipeline.training.batches import make_loader
from pipeline.training.distributed import Processes
from pipeline.training.schedule import Schedule

ITEMS, BATCH = 150, 4
RATIOS = np.random.default_rng(0).uniform(0.5, 2.0, ITEMS)
SCHEDULE = Schedule(
    epochs=2,
    batch_size=BATCH,
    optimizer="sgd",
    learning_rate=0.1,
    backbone_lr_factor=1.0,
    weight_decay=0.0,
)


class Numbers:
    """Samples that are not read: only their order counts."""

    def __len__(self) -> int:
        return ITEMS

    def __getitem__(self, sample):
        raise NotImplementedError

    def collate(self, samples):
        raise NotImplementedError


def batches(first=0, ratios=RATIOS):
    return list(make_loader(Numbers(), SCHEDULE, 5, first, Processes(), ratios).batch_sampler)


@pytest.mark.parametrize("ratios", [RATIOS, None])
def test_every_epoch_shows_every_item_once_in_its_own_order(ratios):
    whole = [sample for batch in batches(ratios=ratios) for sample in batch]
    epochs = [[s.item for s in whole if s.epoch == epoch] for epoch in (0, 1)]
    assert [s.epoch for s in whole] == [0] * ITEMS + [1] * ITEMS
    assert all(sorted(items) == list(range(ITEMS)) for items in epochs)
    assert epochs[0] != epochs[1]


@pytest.mark.parametrize("first", [1, 37, 38, 60])
def test_a_resumed_training_gets_the_batches_that_are_left(first):
    assert batches(first) == batches()[first:]


def test_a_batch_has_images_of_like_shape():
    def spread(ratios):
        return np.mean([np.ptp([RATIOS[s.item] for s in batch]) for batch in batches(0, ratios)])

    assert spread(RATIOS) < 0.2 * spread(None)


def test_batches_are_not_in_the_order_of_their_ratios():
    means = [np.mean([RATIOS[s.item] for s in batch]) for batch in batches()[:16]]
    assert 4 < np.count_nonzero(np.diff(means) > 0) < 12
