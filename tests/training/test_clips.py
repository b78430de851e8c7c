import json
import weakref
from pathlib import Path

import pytest
import torch
from emu_video.training.clips import (
    Batches,
    Entry,
    Index,
    MemoryClips,
    ShardedClips,
    check_base,
    hold_out,
    stacked_text,
)
from safetensors.torch import save_file

LATENTS = (3, 4, 2, 2)


def dataset(folder, shapes=((5, *LATENTS),), **changes):
    """A dataset folder with random tensors; returns them, one dict for each shard."""
    folder.mkdir(exist_ok=True)
    shards, entries = [], []
    for number, shape in enumerate(shapes):
        generator = torch.Generator().manual_seed(number)
        shard = {
            "latents": torch.randn(shape, generator=generator).half(),
            "text": torch.randn(3, 7, 8, generator=generator).half(),
            "text_index": torch.tensor([1 + i % 2 for i in range(shape[0])]),
            "pooled": torch.randn(3, 6, generator=generator).half(),
            "motion": torch.rand(shape[0], generator=generator),
            "original_size": torch.tensor([[640, 360 + i] for i in range(shape[0])]),
            "crop": torch.tensor([[10, 0]] * shape[0]),
        }
        save_file(shard, folder / f"shard-{number:05}.safetensors")
        shards.append(shard)
        entries += [Entry(f"caption {number} {i}", "a.mp4", i, i + 1, f"shard-{number:05}.safetensors", i)
                    for i in range(shape[0])]  # fmt: skip
    index = Index("abc", {"name": "sd15", "hash": "0"}, LATENTS[0], 8.0, (16, 16), tuple(entries))
    (folder / "index.json").write_text(json.dumps({**json.loads(index.to_json()), **changes}))
    return shards


def memory(count=7, frames=3, **options):
    texts = [{"cross_attn": torch.full((2, 8), float(i))} for i in range(count)]
    null = {"cross_attn": torch.zeros(2, 8)}
    return MemoryClips(torch.randn(count, frames, 4, 2, 2), texts, null, fps=8.0, **options)


def test_shards_give_each_clip_with_its_text(tmp_path):
    shards = dataset(tmp_path, ((5, *LATENTS), (2, 3, 4, 2, 4)))
    clips = ShardedClips(tmp_path)
    assert (len(clips), clips.frames, clips.fps, clips.key) == (7, 3, 8.0, "abc")
    assert clips.shape(4) == LATENTS and clips.shape(5) == (3, 4, 2, 4)
    clip = clips[6]
    assert torch.equal(clip.latents, shards[1]["latents"][1].float()) and clip.latents.dtype == torch.float32
    assert torch.equal(clip.text["cross_attn"], shards[1]["text"][2].float())
    assert torch.equal(clip.text["pooled_output"], shards[1]["pooled"][2].float())
    assert torch.equal(clips.null["cross_attn"], shards[0]["text"][0].float())
    assert clips.caption(6) == "caption 1 1" and clip.weight is None
    assert clip.sizes["original_size"].tolist() == [640, 361] and clip.sizes["crop"].tolist() == [10, 0]
    assert clip.conditioning().keys() == clip.text.keys() | clip.sizes.keys()
    assert torch.equal(clip.conditioning(clips.null)["cross_attn"], clips.null["cross_attn"])
    assert memory()[0].conditioning().keys() == {"cross_attn"}


def test_wrong_folders_and_shards_say_so(tmp_path):
    with pytest.raises(ValueError, match=r"is not a dataset: it has no index.json\. Prepare your clips first"):
        ShardedClips(tmp_path)
    dataset(tmp_path, format_version=2)
    with pytest.raises(ValueError, match="has format version 2, this Emu Video reads 1"):
        ShardedClips(tmp_path)
    dataset(tmp_path, clips=[])
    with pytest.raises(ValueError, match="has no clips"):
        ShardedClips(tmp_path)
    dataset(tmp_path, clips=[{"caption": "x"}])
    with pytest.raises(ValueError, match="index.json is damaged"):
        ShardedClips(tmp_path)
    dataset(tmp_path, frames=8)
    with pytest.raises(ValueError, match=r"has latents \[5, 3, 4, 2, 2\], but the index has clips of 8 frames"):
        ShardedClips(tmp_path)
    (shard,) = dataset(tmp_path)
    save_file({**shard, "weight": torch.ones(5, 3, 16, 16)}, tmp_path / "shard-00000.safetensors")
    with pytest.raises(ValueError, match=r"has weights \[5, 3, 16, 16\], but its latents need \[5, 3, 2, 2\]"):
        ShardedClips(tmp_path)
    dataset(tmp_path)
    save_file({"latents": torch.zeros(5, *LATENTS)}, tmp_path / "shard-00000.safetensors")
    with pytest.raises(ValueError, match="lacks the tensor text"):
        ShardedClips(tmp_path)
    (tmp_path / "shard-00000.safetensors").write_bytes(b"cut off")
    with pytest.raises(ValueError, match="is missing or damaged"):
        ShardedClips(tmp_path)
    (tmp_path / "shard-00000.safetensors").unlink()
    with pytest.raises(ValueError, match="is missing or damaged"):
        ShardedClips(tmp_path)


def test_the_index_is_utf_8_in_every_language(tmp_path, monkeypatch):
    dataset(tmp_path)
    index = json.loads((tmp_path / "index.json").read_text("utf-8"))
    index["clips"][0]["caption"] = "the “cat” runs"
    (tmp_path / "index.json").write_text(json.dumps(index, ensure_ascii=False), "utf-8")
    read_text = Path.read_text
    monkeypatch.setattr(Path, "read_text", lambda file, encoding="cp1252", *more: read_text(file, encoding, *more))
    assert ShardedClips(tmp_path).caption(0) == "the “cat” runs"
    (tmp_path / "index.json").write_bytes(json.dumps(index, ensure_ascii=False).encode("cp1252"))
    with pytest.raises(ValueError, match=r"index\.json is damaged"):
        ShardedClips(tmp_path)


def test_files_are_closed_with_the_dataset(tmp_path):
    dataset(tmp_path)
    clips = ShardedClips(tmp_path)
    assert clips[0].latents.shape == LATENTS
    alive = weakref.ref(clips)
    del clips
    assert alive() is None


def test_shards_of_another_base(tmp_path):
    dataset(tmp_path)
    check_base(ShardedClips(tmp_path), {"name": "sd15", "hash": "1"})
    with pytest.raises(ValueError, match="prepared with a checkpoint of the family sd15, but the model is sdxl"):
        check_base(ShardedClips(tmp_path), {"name": "sdxl", "hash": "0"})


def test_memory_clips_and_their_refusals():
    clips = memory(weights=torch.ones(7, 3, 2, 2))
    assert len(clips) == 7 and clips[2].text["cross_attn"][0, 0] == 2 and clips[2].weight is not None
    with pytest.raises(ValueError, match="There are no clips"):
        MemoryClips([], [], {}, fps=8.0)
    with pytest.raises(ValueError, match="7 clips, but 6 texts"):
        memory(text_index=list(range(6)))
    with pytest.raises(ValueError, match="The clips have 3, 4 frames"):
        MemoryClips([torch.zeros(3, 4, 2, 2), torch.zeros(4, 4, 2, 2)], [{}, {}], {}, fps=8.0)


def test_batches_show_each_clip_once_an_epoch_and_depend_on_the_step_alone():
    clips = memory(8)
    batches = Batches(clips, range(8), batch=2, seed=3)
    epochs = [[batches[step] for step in range(start, start + 4)] for start in (0, 4)]
    assert all(sorted(sum(epoch, [])) == list(range(8)) for epoch in epochs) and epochs[0] != epochs[1]
    again = Batches(clips, range(8), batch=2, seed=3)
    assert [again[step] for step in (6, 2, 5)] == [epochs[1][2], epochs[0][2], epochs[1][1]]
    assert [Batches(clips, range(8), batch=2, seed=4)[step] for step in range(4)] != epochs[0]


def test_a_batch_has_one_shape_and_fills_up():
    latents = [torch.zeros(3, 4, 2, 2 if i < 5 else 4) for i in range(8)]
    clips = MemoryClips(latents, [{}] * 8, {}, fps=8.0)
    batches = Batches(clips, range(8), batch=4, seed=0)
    epoch = [batches[step] for step in range(batches.steps)]
    assert len(epoch) == 3 and all(len(batch) == 4 for batch in epoch)
    assert all(len({clips.shape(number) for number in batch}) == 1 for batch in epoch)
    assert {number for batch in epoch for number in batch} == set(range(8))
    assert Batches(memory(1), range(1), batch=4, seed=0)[9] == [0, 0, 0, 0]


def test_held_out_clips():
    train, held = hold_out(memory(40), 0.1, 0)
    assert len(held) == 4 and sorted(train + held) == list(range(40))
    assert hold_out(memory(9), 0.1, 0)[1] == [] and hold_out(memory(40), 0.0, 0)[1] == []
    assert len(hold_out(memory(12), 0.01, 0)[1]) == 1


def test_texts_of_several_lengths_are_repeated():
    short, long = torch.randn(2, 8), torch.randn(3, 8)
    batch = stacked_text([{"cross_attn": short, "pooled_output": torch.ones(4)},
                          {"cross_attn": long, "pooled_output": torch.zeros(4)}])  # fmt: skip
    assert batch["cross_attn"].shape == (2, 6, 8) and batch["pooled_output"].shape == (2, 4)
    query = torch.randn(1, 5, 8)

    def attention(text):
        return torch.softmax(query @ text.mT, -1) @ text

    assert torch.allclose(attention(batch["cross_attn"][:1]), attention(short[None]), atol=1e-6)
