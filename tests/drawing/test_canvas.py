import numpy as np
import pytest
from PIL import Image

from pipeline.drawing import canvas as drawing

GREY = np.full((40, 60, 3), 100, np.uint8)
RED = (255, 0, 0)


def test_colors_are_told_apart():
    colors = np.array(drawing.colors(12), float)
    distances = np.linalg.norm(colors[:, None] - colors, axis=2)[~np.eye(12, dtype=bool)]
    assert distances.min() > 40
    assert drawing.colors(0) == []


def test_overlay_tints_the_mask_alone():
    mask = np.zeros((1, 40, 60), bool)
    mask[0, 10:20, 10:20] = True
    picture = drawing.overlay(GREY, mask, [RED], alpha=0.5)
    assert (picture[10:20, 10:20] == [178, 50, 50]).all()
    assert (picture[~mask[0]] == 100).all()


def test_masks_of_another_resolution_are_stretched():
    mask = np.zeros((1, 4, 6), bool)
    mask[0, :, :3] = True
    picture = drawing.overlay(GREY, mask, [RED], alpha=1.0)
    assert (picture[:, :30] == RED).all()
    assert (picture[:, 30:] == 100).all()


def test_outline_leaves_the_inside_alone():
    mask = np.zeros((1, 40, 60), bool)
    mask[0, 10:30, 10:30] = True
    picture = drawing.outline(GREY, mask, [RED], width=2)
    assert (picture[12:28, 12:28] == 100).all()
    assert (picture[10:30, 10:12] == RED).all()
    assert (picture[10:30, 9] == drawing.INK).all()


def test_heat_glows_where_the_map_is_high():
    response = np.zeros((4, 6))
    response[1, 1] = 7.0
    picture = drawing.heat(GREY, response).astype(int).sum(axis=2)
    assert np.unravel_index(picture.argmax(), picture.shape) == pytest.approx((15, 15), abs=5)
    assert (drawing.heat(GREY, np.zeros((4, 6))) == 60).all()


@pytest.mark.parametrize("point", [(0, 0), (39, 59), (-5, 200)])
def test_peaks_and_names_at_any_place(point):
    marked = drawing.draw_peaks(GREY, np.array([point]), [RED], radius=4)
    assert marked.shape == GREY.shape
    named = drawing.draw_name(GREY, point, "cat", RED, height=12)
    ys, xs = np.nonzero((named != GREY).any(axis=2))
    # The whole name is within the picture, wherever it was to stand.
    assert (np.ptp(ys), np.ptp(xs)) == (
        *(
            np.ptp(axis)
            for axis in np.nonzero(
                (drawing.draw_name(GREY, (5, 5), "cat", RED, height=12) != GREY).any(axis=2)
            )
        ),
    )


def test_a_long_caption_takes_more_lines_and_is_not_clipped():
    short = drawing.caption(GREY, "cat", 10)
    long = drawing.caption(GREY, "a cat that is on a mat and many words besides", 10)
    assert long.shape[1] == GREY.shape[1]
    assert long.shape[0] > short.shape[0] > GREY.shape[0]
    assert (long[:, -1][GREY.shape[0] :] == 255).all()


def test_a_grid_holds_all_pictures_apart():
    black = np.zeros((10, 20, 3), np.uint8)
    sheet = drawing.grid([black, black[:5], black], columns=2)
    assert (sheet == 0).all(axis=2).sum() == 10 * 20 * 2 + 5 * 20
    assert (sheet[[0, -1]] == 255).all()


def test_png_is_what_was_drawn(tmp_path):
    drawing.save_png(tmp_path / "a" / "b.png", GREY)
    assert (np.asarray(Image.open(tmp_path / "a" / "b.png")) == GREY).all()
    assert drawing.enlarge(GREY, 120).shape == (80, 120, 3)
    assert drawing.enlarge(GREY, 30) is GREY
