"""Prior preservation: the prompts, and clips of two datasets as one."""

import re
from dataclasses import replace

import torch
from emu_video.training.clips import MemoryClips, stacked_text
from emu_video.training.prior import Joined, expand


def dataset(seed):
    latents = torch.randn(3, 5, 4, 8, 8, generator=torch.Generator().manual_seed(seed))
    texts = [{"cross_attn": torch.full((2, 3), float(number))} for number in range(3)]
    captions = [f"{seed} {number}" for number in range(3)]
    return MemoryClips(latents, texts, {"cross_attn": torch.zeros(2, 3)}, fps=8.0, captions=captions, key=str(seed))


def test_prompts_in_turn_with_one_choice_of_each():
    texts = expand(("a {red|green} dog {runs|sleeps}", "rain"), 40, seed=3)
    assert texts[1::2] == ["rain"] * 20
    assert all(re.fullmatch("a (red|green) dog (runs|sleeps)", text) for text in texts[::2])
    assert len(set(texts[::2])) == 4
    assert texts == expand(("a {red|green} dog {runs|sleeps}", "rain"), 40, seed=3)
    assert texts != expand(("a {red|green} dog {runs|sleeps}", "rain"), 40, seed=4)


def test_joined_clips():
    first, second = dataset(1), dataset(2)
    both = Joined(first, second)
    count = len(first)
    assert len(both) == 2 * count and both.frames == first.frames and both.fps == first.fps
    for number in range(count):
        assert torch.equal(both[number].latents, first[number].latents)
        assert torch.equal(both[count + number].latents, second[number].latents)
    assert both.caption(count) == second.caption(0) and both.shape(count) == second.shape(0)
    assert both.key not in (first.key, second.key)


class Sized(MemoryClips):
    """Clips with sizes, as those of a dataset folder are."""

    def __getitem__(self, number):
        sizes = {"original_size": torch.tensor([64.0, 48.0]), "crop": torch.zeros(2)}
        return replace(super().__getitem__(number), sizes=sizes)


def test_joined_clips_share_a_batch():
    first = dataset(1)
    sized = Sized(first.latents, first.texts, first.null, fps=8.0, key="sized")
    both = Joined(sized, dataset(2))
    batch = stacked_text([both[0].conditioning(), both[4].conditioning()])
    assert batch["original_size"].tolist() == [[64.0, 48.0]] * 2
    assert torch.equal(batch["cross_attn"][1], dataset(2)[1].text["cross_attn"])
