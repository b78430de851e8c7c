"""What the video layers learn from: which frames are known, and clips that turn round behind them."""

import pytest
import torch

train_video = pytest.importorskip("emu_video.pocket.stages.video")


def pattern(*known: int) -> torch.Tensor:
    return torch.tensor([i in known for i in range(8)])


def test_only_a_known_start_turns_round():
    masks = torch.stack([pattern(0), pattern(0, 7), pattern(0, 2, 4, 6), pattern(0, 1), pattern(0, 1, 2, 3)])
    turned = torch.ones(5, dtype=torch.bool)
    order = train_video.turn_round(masks, turned).tolist()
    assert order[:3] == [[*range(8)]] * 3
    assert order[3:] == [[1, 0, 1, 2, 3, 4, 5, 6], [3, 2, 1, 0, 1, 2, 3, 4]]
    assert train_video.turn_round(masks, ~turned).tolist() == [[*range(8)]] * 5


def test_what_is_known_is_of_the_clip_to_be_learned():
    """Frame i of clip n holds 100 n + i, so each number says where it came from."""
    x0 = (100 * torch.arange(400)[:, None] + torch.arange(8)).float()[..., None, None, None].expand(-1, -1, 4, 2, 2)
    weight = x0[:, :, 0]
    dropped = torch.arange(400) % 10 == 0
    clips, weights, known = train_video.arrange(x0, weight, dropped, torch.Generator().manual_seed(0))
    order = clips[:, :, 0, 0, 0] - 100 * torch.arange(400)[:, None]
    assert torch.equal(weights, clips[:, :, 0])
    assert set(order.diff(dim=1).unique().tolist()) == {-1, 1}
    starts = order[:, 0].long().bincount(minlength=4) / 400
    assert starts[0] > 0.8 and starts[1:].min() > 0.01
    mask = known[:, :, 4:]
    assert torch.equal(known[:, :, :4], clips * mask)
    assert not mask[dropped].any() and mask[~dropped].flatten(1).any(1).all()
    assert torch.equal(mask[order[:, 0] > 0].sum((1, 2, 3, 4)) // 4, ((order[:, 0] + 1) * ~dropped)[order[:, 0] > 0])
