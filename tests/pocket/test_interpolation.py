"""The world at the finer rate, and what the interpolation layers are given while they learn."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from emu_video.diffusion.known_frames import add_known_noise, concat_conditioning, mask_with_noise_level
from emu_video.diffusion.schedule import Schedule
from emu_video.diffusion.windows import interpolated
from emu_video.pocket.recipe import RECIPE
from emu_video.pocket.world import ALL, CROSSING, FINE_TIMES, FRAMES, GIVEN, TIMES, render_clips, sample_clips, showing
from emu_video.pocket.world.vocabulary import MOTIONS

PATHS = ("x", "y", "radius", "angle")


@pytest.mark.parametrize("scenes", [ALL, showing(*CROSSING)], ids=["all", "crossing"])
def test_every_fourth_fine_frame_is_the_clip_itself(scenes):
    coarse, fine = (sample_clips(31, 100, times, scenes) for times in (TIMES, FINE_TIMES))
    assert len(FINE_TIMES) == 37 and FINE_TIMES[4:33:4].tolist() == TIMES.tolist()
    for one, other in zip(coarse, fine, strict=True):
        assert one.caption == other.caption
        assert np.array_equal(one.light, other.light[4:33:4])
        for body, slow in zip(one.bodies, other.bodies, strict=True):
            assert all(np.array_equal(getattr(body, name), getattr(slow, name)[4:33:4]) for name in PATHS)
    pictures = render_clips(coarse[:20])[0]
    assert torch.equal(pictures, render_clips(fine[:20])[0][:, 4:33:4])
    assert not torch.equal(pictures[:, 1:], render_clips(fine[:20])[0][:, 5:30:4])


def test_fine_motion_is_steady_and_stays_in_the_frame():
    clips = sample_clips(32, 400, FINE_TIMES)
    bodies = [body for clip in clips for body in clip.bodies]
    assert {b.motion for b in bodies} == set(MOTIONS)
    for body in bodies:
        assert all(((path - body.radius > -0.01) & (path + body.radius < 1.01)).all() for path in (body.x, body.y))
        if body.motion == "spinning":
            turns = np.diff(body.angle)
            assert np.allclose(turns, turns[0]) and turns[0] > np.deg2rad(1.4)
        if body.motion in ("moving left", "moving right"):
            assert np.allclose(np.diff(body.x[4:33]), (body.x[32] - body.x[4]) / 28)
            outer = np.abs(np.diff(body.x[[3, 4]])), np.abs(np.diff(body.x[[32, 33]]))
            assert max(outer) <= np.abs(body.x[32] - body.x[4]) / 28 + 1e-9
    moving = [b for b in bodies if b.motion == "moving right"]
    assert np.mean([b.x[0] < b.x[4] - 1e-3 for b in moving]) > 0.9
    assert all((clip.light >= 0.35).all() and (clip.light <= 1).all() for clip in clips)


def test_crossing_shapes_cross():
    clips = sample_clips(33, 100, scenes=showing(*CROSSING))
    assert {len(clip.bodies) for clip in clips} == {2}
    for clip in clips:
        one, other = clip.bodies
        axis = "x" if one.motion == "moving right" else "y"
        gap = getattr(other, axis) - getattr(one, axis)
        assert gap[0] > 0 > gap[-1]
        assert one.colour != other.colour and one.shape != other.shape
    overlap = [(a.y if a.motion == "moving right" else a.x)[0] - (b.y if a.motion == "moving right" else b.x)[0]
               for a, b in (clip.bodies for clip in clips)]  # fmt: skip
    assert max(map(abs, overlap)) < 0.1


@pytest.mark.parametrize("exact", [1.0, 0.0], ids=["exact", "noised"])
def test_training_gives_what_the_node_gives(exact):
    """The node's layout, noise and channels, restated for the recipe's interpolation stage."""
    schedule = Schedule.from_betas(zero_terminal_snr=True)
    known = replace(RECIPE.stages["interpolation"].stage.known(), exact=exact)
    x0 = torch.randn(37, 4, 2, 2, generator=torch.Generator().manual_seed(1))
    layout = interpolated(FRAMES, 4, (4, 4))
    (window,) = layout.windows
    mask = known.mask(len(FINE_TIMES), torch.Generator())
    assert tuple(GIVEN) == layout.positions == tuple(mask.nonzero().flatten().tolist())
    assert window.frames == len(FINE_TIMES)
    conditioning = known.conditioning(x0, mask, schedule, torch.Generator().manual_seed(2))
    generator, level = torch.Generator().manual_seed(2), 0
    torch.rand((), generator=generator)
    if not exact:
        level = int(torch.randint(0, 251, (), generator=generator))
        assert level > 0
    noised = add_known_noise(x0, level, schedule, generator)
    latents, node_mask = layout.place(noised[4:33:4], window)
    assert torch.equal(conditioning, concat_conditioning(latents, mask_with_noise_level(node_mask, level, schedule)))
