"""Layouts with their numbers written out, and how windows are put together."""

import pytest
import torch
from emu_video.diffusion.windows import Layout, extended, interpolated, known_at

PAPER = 4, (4, 4)  # factor and margins


def spans(layout: Layout) -> list[tuple[int, int]]:
    return [(window.start, window.start + window.frames) for window in layout.windows]


def times(layout: Layout) -> list[torch.Tensor]:
    """What perfectly sampled windows hold: each frame the time it shows, in new frames; given frame 0 is at 0.

    It follows from what a window knows, not from where the layout puts it: given frame i is at time 4 i.
    """
    videos = []
    for window in layout.windows:
        known = layout.positions[window.given.start] - window.start
        videos.append(torch.arange(window.frames) - known + 4 * window.given.start)
    return videos


def steps(video: torch.Tensor) -> set[int]:
    return set(video.diff().tolist())


def test_8_frames_become_37():
    layout = interpolated(8, *PAPER)
    assert layout.frames == 37
    assert layout.positions == (4, 8, 12, 16, 20, 24, 28, 32)
    assert spans(layout) == [(0, 37)] and [list(w.given) for w in layout.windows] == [[0, 1, 2, 3, 4, 5, 6, 7]]


def test_between_only_gives_29():
    layout = interpolated(8, 4, (0, 0))
    assert layout.frames == 29 and layout.positions == (0, 4, 8, 12, 16, 20, 24, 28)


def test_16_frames_become_69_without_a_seam():
    layout = interpolated(16, *PAPER)
    assert [list(w.given) for w in layout.windows] == [list(range(8)), list(range(8, 16))]
    assert spans(layout) == [(0, 37), (32, 69)]
    assert layout.frames == 69 and layout.positions == tuple(range(4, 65, 4))
    video = layout.join(times(layout))
    assert video.tolist() == list(range(-4, 65))  # no time is missing, none is repeated
    assert set(range(0, 64, 4)) <= set(video.tolist())  # every given frame is there
    first, second = torch.zeros(37), torch.ones(37)
    assert layout.join([first, second]).tolist() == [0] * 34 + [1] * 35  # 3 and 2 frames are dropped


def test_new_frames_at_a_seam_come_from_the_nearer_window():
    """Of the three between given frames 7 and 8 the middle one is as far from both."""
    layout = interpolated(16, *PAPER)
    source = layout.join([torch.zeros(37), torch.ones(37)]).tolist()
    assert layout.positions[7:9] == (32, 36)
    assert source[33] == 0 and source[35] == 1


def test_the_papers_65_frames_jump_at_the_seam():
    """Dropping the last 5 frames of the first half and the first 4 of the second, as the paper words it."""
    layout = interpolated(16, *PAPER, paper=True)
    first, second = times(layout)
    video = layout.join([first, second])
    assert len(video) == layout.frames == 65
    assert torch.equal(video, torch.cat((first[:-5], second[4:])))
    assert video[31:33].tolist() == [27, 32]  # 5 frames in one step
    assert 28 not in video  # given frame 7 is lost
    assert steps(video) == {1, 5}


@pytest.mark.parametrize("count", [*range(2, 26), 40, 41])
@pytest.mark.parametrize("margins", [(4, 4), (0, 0), (2, 2), (2, 1), (1, 2), (0, 5)])
def test_any_count_is_joined_without_a_seam(count, margins):
    layout = interpolated(count, 4, margins)
    video = layout.join(times(layout))
    assert video.tolist() == list(range(-margins[0], 4 * (count - 1) + margins[1] + 1))
    assert [video[p].item() for p in layout.positions] == [4 * i for i in range(count)]
    assert {len(w.given) for w in layout.windows} == {min(8, count)}
    assert {w.frames for w in layout.windows} == {4 * (min(8, count) - 1) + 1 + sum(margins)}


@pytest.mark.parametrize(
    "count, margins, firsts",
    [(8, (4, 4), [0]), (9, (4, 4), [0, 1]), (16, (4, 4), [0, 8]), (24, (4, 4), [0, 8, 16]), (20, (4, 4), [0, 8, 12]),
     (15, (0, 0), [0, 7]), (16, (0, 0), [0, 7, 8]), (16, (2, 1), [0, 8]), (16, (1, 2), [0, 7, 8])],
)  # fmt: skip
def test_windows_begin(count, margins, firsts):
    """Disjoint where margins fill the gap, sharing a frame where they do not."""
    assert [w.given.start for w in interpolated(count, 4, margins).windows] == firsts


@pytest.mark.parametrize(
    "factor, margins, frames", [(2, (0, 0), 15), (2, (2, 2), 19), (3, (1, 2), 25), (8, (8, 0), 65)]
)
def test_other_factors_and_margins(factor, margins, frames):
    layout = interpolated(8, factor, margins)
    assert layout.frames == frames and layout.positions == tuple(margins[0] + factor * i for i in range(8))


def test_first_and_last():
    layout = known_at((0, -1), 8)
    assert layout.frames == 8 and layout.positions == (0, 7) and spans(layout) == [(0, 8)]
    known, mask = layout.place(torch.ones(2, 4, 3, 5), layout.windows[0])
    assert mask[:, 0, 0, 0].tolist() == [1, 0, 0, 0, 0, 0, 0, 1] and torch.equal(known, mask.expand(8, 4, 3, 5))


def test_extension_goes_on_where_the_video_ends():
    layout = extended(8, known=2, frames=8)
    assert layout.frames == 14 and spans(layout) == [(6, 14)] and list(layout.windows[0].given) == [6, 7]
    latents = torch.arange(1.0, 3).reshape(2, 1, 1, 1)
    known, mask = layout.place(latents, layout.windows[0])
    assert known.flatten().tolist() == [1, 2, 0, 0, 0, 0, 0, 0] and mask.flatten().tolist() == [1, 1, 0, 0, 0, 0, 0, 0]
    new = torch.arange(106, 114)
    assert layout.join([new], torch.arange(8)).tolist() == [*range(8), *range(108, 114)]


def test_extending_five_times_repeats_nothing():
    video = torch.arange(8)
    for _ in range(5):
        layout = extended(len(video), known=2, frames=9)
        video = layout.join([torch.arange(9) + len(video) - 2], video)
    assert video.tolist() == list(range(43))


def test_every_window_knows_its_frames():
    layout = interpolated(16, *PAPER)
    for window in layout.windows:
        latents = torch.randn(8, 4, 3, 5)
        known, mask = layout.place(latents, window)
        assert torch.equal(known[4:33:4], latents) and mask.sum() == 8 * 15
        assert mask[:, 0, 0, 0].nonzero().flatten().tolist() == [4, 8, 12, 16, 20, 24, 28, 32]


def test_given_frames_are_pasted_exactly():
    layout = interpolated(16, *PAPER)
    given, windows = torch.rand(16, 4, 4, 3), [torch.rand(37, 4, 4, 3) for _ in range(2)]
    plain, pasted = layout.join(windows), layout.join(windows, given)
    assert torch.equal(pasted[4:65:4], given)
    others = [i for i in range(69) if i % 4 or i in (0, 68)]
    assert torch.equal(pasted[others], plain[others]) and not torch.equal(pasted, plain)


def test_join_keeps_what_it_is_given():
    layout = interpolated(2, *PAPER)
    windows, given = [torch.rand(13, 4, 4, 3)], torch.rand(2, 4, 4, 3)
    before = windows[0].clone()
    layout.join(windows, given)
    assert torch.equal(windows[0], before)


@pytest.mark.parametrize(
    "layout, message",
    [
        (lambda: interpolated(1, *PAPER), "at least 2 frames, got 1"),
        (lambda: interpolated(0, *PAPER), "at least 2 frames, got 0"),
        (lambda: interpolated(8, 1, (4, 4)), "factor of 1 adds no frames: set it to 2 or more"),
        (lambda: interpolated(8, 4, (-1, 4)), r"margins are \[-1, 4\], but .*: use 0 or more"),
        (lambda: interpolated(8, 4, (4, 4), window=1), "window needs at least 2 given frames, got 1"),
        (lambda: interpolated(12, *PAPER, paper=True), "multiple of 8 frames, got 12: use the continuous seam"),
        (
            lambda: known_at((0, -1), 2),
            "2 of 2 frames are given: give at least one, and leave at least one to be sampled",
        ),
        (lambda: extended(8, 0, 8), "has 8 frames, but known is 0: set known to a number from 1 to 8"),
        (lambda: extended(3, 4, 8), "has 3 frames, but known is 4: set known to a number from 1 to 3"),
        (lambda: extended(1, 2, 8), "has 1 frame, but known is 2: set known to 1\\.$"),
        (lambda: extended(8, 4, 4), "4 frames, 4 of them known, adds nothing: set frames above 4"),
    ],
)
def test_refused_layouts(layout, message):
    with pytest.raises(ValueError, match=message):
        layout()


def pictures(frames: int, width: int = 4, height: int = 4) -> torch.Tensor:
    return torch.zeros(frames, height, width, 3)


@pytest.mark.parametrize(
    "videos, given, message",
    [
        ([pictures(37)], None, "Expected 2 x 37 frames, got 1 x 37 frames"),
        ([pictures(74)], None, "got 1 x 74 frames"),
        ([pictures(37), pictures(36)], None, "got 37, 36 frames"),
        ([], None, "got no frames"),
        ([pictures(37)] * 2, pictures(8), "16 given frames, got 8"),
        ([pictures(37)] * 2, pictures(16, width=8), "same size, but there are 4x4 and 8x4"),
        ([pictures(37), pictures(37, height=6)], None, "same size, but there are 4x4 and 4x6"),
    ],
)
def test_refused_joins(videos, given, message):
    with pytest.raises(ValueError, match=message):
        interpolated(16, *PAPER).join(videos, given)


def test_an_extension_needs_the_video_that_it_extends():
    with pytest.raises(ValueError, match="video that was extended is missing"):
        extended(8, 2, 8).join([pictures(8)])
