"""Prior preservation: the prompts, clips of two datasets as one, and the targets of prior clips."""

import re
from dataclasses import replace

import torch
from emu_video.tests.temporal_layers.small import info_for
from emu_video.tests.training.test_trainer import FRAMES, STAGE, brightening, fresh
from emu_video.training.clips import MemoryClips, stacked_text
from emu_video.training.prior import Joined, Teacher, expand
from emu_video.training.task import Task
from emu_video.training.trainer import Run, stage_info, stage_objective, train_layers


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


def test_the_target_of_prior_clips_is_the_output_of_the_layers_before_training():
    _, layers, network = fresh()
    objective = stage_objective(STAGE, info_for(layers))
    task = Task(network, objective, brightening(), True, torch.device("cpu"))
    teacher = Teacher(layers, task)
    texts = [task.clips[number].conditioning() for number in range(3)]
    drawn = [task.draw(task.clips[number], seed=number) for number in range(3)]
    _, before = task.outputs(drawn, texts)
    with torch.no_grad():
        for parameter in layers.parameters():
            parameter.add_(0.1)
    changed = {key: value.clone() for key, value in layers.state_dict().items()}
    taught = teacher.taught(drawn, texts)
    assert all(torch.equal(sample.target, output) for sample, output in zip(taught, before, strict=True))
    assert all(torch.equal(value, changed[key]) for key, value in layers.state_dict().items())
    for sample, output in zip(taught, before, strict=True):
        assert torch.allclose(objective.drift(output, sample), torch.zeros(()), atol=1e-10)
    loss, _ = task.predict(taught, texts)
    assert loss > 1e-4


def test_the_layers_learn_after_the_teacher_in_half_precision():
    _, layers, network = fresh()
    task = Task(network, stage_objective(STAGE, info_for(layers)), brightening(), True, torch.device("cpu"))
    teacher, texts = Teacher(layers, task), [task.clips[0].conditioning()]
    drawn = [task.draw(task.clips[0], seed=0)]
    with torch.no_grad():
        for parameter in layers.parameters():
            parameter.add_(0.1)

    def gradients():
        layers.zero_grad()
        task.predict(drawn, texts)[0].backward()
        return [parameter.grad for parameter in layers.parameters() if parameter.grad is not None]

    with torch.autocast("cpu", torch.bfloat16):
        expected = gradients()
    with torch.autocast("cpu", torch.bfloat16):
        teacher.taught(drawn, texts)
        found = gradients()
    assert len(found) == len(expected) > 0
    assert all(torch.equal(*pair) for pair in zip(found, expected, strict=True))


def test_prior_clips_do_not_change_layers_that_have_forgotten_nothing(tmp_path):
    """The only other clip has a weight of 0."""
    own = brightening(1)
    own.weights = torch.zeros(1, FRAMES, *own.latents.shape[3:])
    stage = replace(STAGE, held_out=0.0)
    _, layers, network = fresh()
    before = {key: value.clone() for key, value in layers.state_dict().items()}
    clips = Joined(own, brightening())
    this = Run(tmp_path, "a test", 0, {"name": "pocket", "hash": "123"}, "given")
    train_layers(layers, network, clips, stage, stage_info(info_for(layers), clips, stage, this), this, echo=False)
    assert all(torch.equal(value, before[key]) for key, value in layers.state_dict().items())
