"""Windows in time and tiles in space: they cover the video, and join without a trace."""

import pytest
import torch
from emu_video.diffusion.tiles import all_known, tiled
from emu_video.diffusion.windows import join_all


@pytest.mark.parametrize(
    ("count", "window", "overlap", "starts"),
    [
        (8, 8, 2, [0]),
        (5, 8, 2, [0]),
        (9, 8, 2, [0, 1]),
        (14, 8, 2, [0, 6]),
        (15, 8, 2, [0, 6, 7]),
        (12, 4, 0, [0, 4, 8]),
    ],
)
def test_windows_cover_all_frames(count, window, overlap, starts):
    layout = all_known(count, window, overlap)
    assert [each.start for each in layout.windows] == starts
    assert {each.frames for each in layout.windows} == {min(window, count)}
    assert all(list(each.given) == list(range(count)[each.span]) for each in layout.windows)
    known, mask = layout.place(torch.ones(len(layout.windows[0].given), 4, 2, 2), layout.windows[0])
    assert known.all() and mask.all()


def cut(video, layout):
    return [video[t.span, y.span, x.span] for t, y, x in layout.windows]


@pytest.mark.parametrize("settings", [{}, {"tile": 16, "tile_overlap": 4}, {"tile": 40, "tile_overlap": 8}])
def test_equal_windows_join_to_the_video(settings):
    video = torch.rand(13, 24, 40, 3, generator=torch.Generator().manual_seed(0))
    layout = tiled(13, 24, 40, window=5, overlap=2, **settings)
    joined = layout.join(cut(video, layout))
    torch.testing.assert_close(joined, video)
    (again,) = join_all([layout], cut(video, layout))
    assert torch.equal(again, joined)


def test_windows_are_in_order_of_time_rows_and_columns():
    layout = tiled(4, 32, 48, window=4, overlap=0, tile=16, tile_overlap=0)
    assert [(y.start, x.start) for _, y, x in layout.windows] == [(y, x) for y in (0, 16) for x in (0, 16, 32)]


@pytest.mark.parametrize(
    ("settings", "pixels"),
    [
        ({"window": 13}, 13 * 24 * 40),
        ({"window": 5}, (20 + 13) * 24 * 40),
        # 20 frames of 2 x 3 tiles of 16 x 16; whole rows of them and then pictures; pictures and then the video
        ({"window": 5, "tile": 16, "tile_overlap": 4}, 20 * (32 * 48 + 32 * 40 + 24 * 40)),
    ],
)
def test_pixels_while_joining(settings, pixels):
    layout = tiled(13, 24, 40, overlap=2, **settings)
    assert layout.peak_pixels == pixels


def test_one_window_is_not_copied():
    layout, video = tiled(4, 8, 8, window=4, overlap=0), torch.rand(4, 8, 8, 3)
    assert layout.join([video]) is video


def test_overlaps_fade_linearly():
    layout = all_known(7, 4, 1)
    assert layout.blend([torch.zeros(4), torch.ones(4)], dim=0).tolist() == [0, 0, 0, 0.5, 1, 1, 1]
    layout = all_known(6, 4, 2)
    faded = layout.blend([torch.zeros(1, 4), torch.ones(1, 4)], dim=1)
    torch.testing.assert_close(faded, torch.tensor([[0, 0, 1 / 3, 2 / 3, 1, 1]]))


def test_blending_keeps_what_it_is_given():
    parts = [torch.zeros(4), torch.ones(4)]
    all_known(6, 4, 2).blend(parts, dim=0)
    assert not parts[0].any() and parts[1].all()


def test_refusals():
    with pytest.raises(ValueError, match="Windows of 4 cannot overlap by 4: use an overlap from 0 to 3"):
        all_known(8, 4, 4)
    layout = tiled(4, 8, 8, window=2, overlap=0)
    with pytest.raises(
        ValueError, match=r"Expected 2 windows of 2x8x8 \(frames, height, width\), got 1 window of 2x8x8"
    ):
        layout.join([torch.zeros(2, 8, 8, 3)])
    with pytest.raises(ValueError, match="Expected 2 windows of 2x8x8 .* got 2 windows of 2x4x8 and 2x8x8"):
        layout.join([torch.zeros(2, 8, 8, 3), torch.zeros(2, 4, 8, 3)])
    with pytest.raises(ValueError, match="given frames are smaller"):
        layout.join(cut(torch.zeros(4, 8, 8, 3), layout), torch.zeros(4, 4, 4, 3))
