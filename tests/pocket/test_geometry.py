"""What the image stage learns besides denoising: the geometry of shapes, and the words of captions."""

import math
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from emu_video.pocket.model.text_encoder import Vocabulary, tokens_of
from emu_video.pocket.recipe import STARTS, TURNED
from emu_video.pocket.stages.clips import scenes_of
from emu_video.pocket.stages.geometry import LENGTH, RADIUS, SYMMETRY, GeometryProbe, cells_of, geometry_of
from emu_video.pocket.stages.word_probe import WordProbe
from emu_video.pocket.world import render_clips
from emu_video.pocket.world.render import coverage
from emu_video.pocket.world.vocabulary import SHAPES


def test_the_target_of_a_cell_is_the_shape_that_covers_it():
    clips = replace(TURNED, count=40)
    scenes, geometry = scenes_of(clips), geometry_of(clips)
    assert geometry.shape == (40, 3, 2, 5)
    covered = render_clips(scenes)[1]
    checked = 0
    for i, scene in enumerate(scenes):
        targets, belongs, _ = cells_of(geometry[i], 16)
        whole = F.avg_pool2d(covered[i], 8) == 1
        assert not (whole & ~belongs).any()
        if len(scene.bodies) > 1:
            continue
        (body,) = scene.bodies
        places = (torch.arange(16) + 0.5) / 16
        x = (places + targets[:, 0] * LENGTH)[belongs]
        y = (places[:, None] + targets[:, 1] * LENGTH)[belongs]
        frame = belongs.nonzero()[:, 0]
        assert torch.allclose(x, torch.tensor(body.x).float()[frame], atol=1e-5)
        assert torch.allclose(y, torch.tensor(body.y).float()[frame], atol=1e-5)
        radius = torch.tensor(body.radius).float()[frame]
        assert torch.allclose((targets[:, 2] / 2).exp()[belongs] * RADIUS, radius, rtol=1e-4)
        assert (targets[:, 5:].argmax(1) == SHAPES.index(body.shape)).all()
        checked += 1
    assert checked > 20


def test_two_shapes_share_the_frame():
    clips = replace(STARTS, count=200)
    scenes, geometry = scenes_of(clips), geometry_of(clips)
    pair = next(i for i, s in enumerate(scenes) if len(s.bodies) == 2 and s.bodies[0].shape != s.bodies[1].shape)
    targets, belongs, owner = cells_of(geometry[pair], 16)
    kinds = targets[:, 5:].argmax(1)[belongs]
    assert set(kinds.tolist()) == {SHAPES.index(body.shape) for body in scenes[pair].bodies}
    owners = [SHAPES.index(scenes[pair].bodies[i].shape) for i in owner[belongs].tolist()]
    assert kinds.tolist() == owners
    lonely = next(i for i, s in enumerate(scenes) if len(s.bodies) == 1)
    assert geometry[lonely, :, 1].isnan().all() and not cells_of(geometry[lonely], 16).targets.isnan().any()


@pytest.mark.parametrize("shape", SHAPES)
def test_angles_that_look_the_same_have_the_same_targets(shape):
    def seen(angle: float) -> tuple[torch.Tensor, torch.Tensor]:
        geometry = torch.tensor([[[0.5, 0.5, 0.25, angle, SHAPES.index(shape)], [math.nan] * 5]])
        at = (torch.tensor([value]) for value in (0.5, 0.5, 0.25, angle))
        return coverage(shape, *at), cells_of(geometry, 16).targets

    folds = SYMMETRY[shape]
    turn = 2 * math.pi / folds if folds else 1.0
    (picture, targets), (same, same_targets), (other, other_targets) = (
        seen(a) for a in (0.3, 0.3 + turn, 0.3 + turn / 2)
    )
    assert (picture - same).abs().max() < 0.02 and torch.allclose(targets, same_targets, atol=1e-4)
    if folds:
        assert (picture - other).abs().max() > 0.5 and (targets - other_targets).abs().max() > 0.5


def test_the_probe_learns_from_the_cells_of_shapes_alone():
    geometry = geometry_of(replace(STARTS, count=8))[:, 0]
    cells = cells_of(geometry, 8)
    targets, belongs, _ = cells
    features = torch.where(belongs[:, None], targets, 1e6 * torch.randn_like(targets))
    probe = GeometryProbe((targets.shape[1],))
    with torch.no_grad():
        probe.maps[0].weight.copy_(torch.eye(targets.shape[1])[..., None, None])
        probe.maps[0].bias.zero_()
    assert probe.error([features], [cells]) < 1e-10
    assert probe.error([features + 0.1], [cells]).item() == pytest.approx(0.01, rel=1e-3)


def test_probe_of_words_finds_the_words_of_the_caption():
    tokens = tokens_of(["a red circle moving right", "two stars"])
    probe = WordProbe((len(Vocabulary()),))
    said = torch.zeros(2, len(Vocabulary())).scatter_(1, tokens, 1.0)
    features = (40 * said - 20)[..., None, None].expand(-1, -1, 4, 4) + torch.tensor([1.0, -1.0]).repeat(4, 2)
    with torch.no_grad():
        probe.map.weight.copy_(torch.eye(len(Vocabulary())))
        probe.map.bias.zero_()
    assert probe.error([features], tokens) < 1e-6
    assert probe.error([features], tokens.flip(0)) > 1
