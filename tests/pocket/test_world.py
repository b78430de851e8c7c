import numpy as np
import pytest
import torch
from emu_video.pocket.model.text_encoder import END, PAD, START, UNKNOWN, Vocabulary, pad_tokens
from emu_video.pocket.world import FRAMES, Scenes, render_clips, sample_clips
from emu_video.pocket.world.render import coverage, signed_distance
from emu_video.pocket.world.vocabulary import COLOURS, MOTIONS, SHAPES, held_out


def test_a_seed_gives_the_same_pictures():
    first, second, other = (render_clips(sample_clips(seed, 6))[0] for seed in (3, 3, 4))
    assert torch.equal(first, second)
    assert not torch.equal(first, other)
    assert first.shape == (6, FRAMES, 3, 128, 128) and first.dtype == torch.uint8


def test_no_training_clip_shows_a_held_out_combination():
    clips = sample_clips(0, 3000)
    seen = {(b.colour, b.shape, b.motion) for clip in clips for b in clip.bodies}
    assert not any(held_out(*combination) for combination in seen)
    every = [(c, s, m) for c in COLOURS for s in SHAPES for m in MOTIONS]
    share = sum(held_out(*combination) for combination in every) / len(every)
    assert 0.1 < share < 0.25
    possible = [c for c in every if not held_out(*c) and not (c[1] == "circle" and c[2] == "spinning")]
    assert len(seen) > 0.98 * len(possible)


def test_shapes_stay_in_the_frame():
    for clip in sample_clips(1, 500):
        for body in clip.bodies:
            for path in (body.x, body.y):
                assert (path - body.radius > -0.01).all() and (path + body.radius < 1.01).all(), clip.caption


def test_captions_use_only_known_words():
    vocabulary = Vocabulary()
    for clip in (*sample_clips(2, 500), *sample_clips(2, 500, scenes=Scenes(is_moving=False))):
        assert vocabulary.unknown(clip.caption) == []
        assert len(vocabulary.encode(clip.caption)) <= 30


def test_captions_tell_where_shapes_go():
    for clip in sample_clips(5, 800):
        for body in clip.bodies:
            if body.motion == "moving right":
                assert body.x[-1] - body.x[0] > 0.08
            if body.motion == "getting smaller":
                assert body.radius[-1] < 0.85 * body.radius[0]
            if body.motion == "still":
                assert np.ptp(body.x) == np.ptp(body.y) == np.ptp(body.radius) == np.ptp(body.angle) == 0


@pytest.mark.parametrize("shape", SHAPES)
def test_shapes_are_solid_and_turn(shape):
    half, radius = torch.tensor([0.5]), torch.tensor([0.2])
    upright = coverage(shape, half, half, radius, torch.tensor([0.0]))[0]
    turned = coverage(shape, half, half, radius, torch.tensor([0.5]))[0]
    assert upright[64, 64] == 1 and upright[0, 0] == 0
    assert upright.sum().item() == pytest.approx(turned.sum().item(), rel=0.02)
    assert ((upright - turned).abs().max().item() < 0.01) == (shape == "circle")


def test_unknown_shape_is_refused():
    with pytest.raises(ValueError, match="use circle, square"):
        signed_distance("blob", torch.zeros(1), torch.zeros(1))


def test_words():
    vocabulary = Vocabulary()
    assert vocabulary.encode("A RED ball, moving!") == vocabulary.encode("a red circle moving")
    assert vocabulary.encode("a dragon")[1] == UNKNOWN and vocabulary.unknown("a dragon") == ["dragon"]
    assert pad_tokens([7]) == [START, 7, END] + [PAD] * 29
    assert len(pad_tokens(list(range(50)))) == 32 and pad_tokens(list(range(50)))[-1] == END
    again = Vocabulary.from_tensor(vocabulary.to_tensor())
    assert again.words == vocabulary.words and again.aliases == vocabulary.aliases


@pytest.mark.parametrize(
    "text, complaint",
    [
        ("a red ball moves up", ""),
        ("two circles", 'The pocket model does not know "two", "circles" (did you mean circle?).'),
        ("a purpel star moveing left", 'The pocket model does not know "purpel" (did you mean purple?), "moveing" '
                                       "(did you mean moving?)."),
        ("a photograph of a cat", 'The pocket model does not know "photograph", "of", "cat".'),
        ("a dragon", 'The pocket model does not know "dragon".'),
    ],
)  # fmt: skip
def test_unknown_words_come_with_near_misses(text, complaint):
    assert Vocabulary().complaint(text) == complaint
