"""The node Train Temporal Layers with the stock loader, the stock dataset node and the pocket checkpoint."""

import importlib
from pathlib import Path

import comfy.model_management
import comfy.utils
import folder_paths
import pytest
import torch
from comfy_extras.nodes_dataset import MakeTrainingDataset
from emu_video.host.injection import check_layers
from emu_video.pocket.shipped import CHECKPOINT, VIDEO_LAYERS
from emu_video.temporal_layers.files import load_layers
from emu_video.tests.comfyui import tiny

FEW = (
    'batch = 2\nclips_at_once = 2\nsave_every = 2\ncheck_every = 2\nlog_every = 1\nprecision = "float32"\nwarmup = 1\n'
)
FEW += "sample_every = 0\n"


@pytest.fixture(scope="module")
def loaded(pack):
    nodes = importlib.import_module("nodes")
    with torch.inference_mode():
        return nodes.CheckpointLoaderSimple().load_checkpoint(CHECKPOINT.name)


@pytest.fixture(scope="module")
def clips(loaded):
    """Latents and conditioning of squares that move, as core's node gives them."""
    videos = []
    for number in range(4):
        video = torch.full((8, 64, 64, 3), 0.1)
        for frame in range(8):
            video[frame, 20:40, 4 * frame : 4 * frame + 20, number % 3] = 0.9
        videos.append(video)
    with torch.inference_mode():
        captions = ["a red square", "a green square", "a blue square", "a red square"]
        return MakeTrainingDataset.execute(videos, [loaded[2]], [loaded[1]], captions).result


@pytest.fixture(autouse=True)
def models(tmp_path, monkeypatch):
    monkeypatch.setattr(folder_paths, "models_dir", str(tmp_path / "models"))
    monkeypatch.setattr(folder_paths, "get_output_directory", lambda: str(tmp_path / "output"))


def train(pack, model, clips=None, clip=None, vae=None, **changes):
    latents, conditioning = clips or ([], [])
    inputs = {"recipe": "motion_pocket", "name": "mine", "dataset": "", "steps": 3, "learning_rate": 0.0, "seed": 0,
              "prompts": "", "settings": FEW} | changes  # fmt: skip
    lists = {name: [value] for name, value in inputs.items()} | {"model": [model], "latents": latents}
    lists |= {"conditioning": conditioning, "clip": [clip] if clip else [], "vae": [vae] if vae else []}
    return pack["EmuVideoTrainTemporalLayers"].execute(**{k: v for k, v in lists.items() if v}).result


def clip_text(clip, text):
    return clip.encode_from_tokens_scheduled(clip.tokenize(text))


def with_layers(pack, model):
    return pack["EmuVideoLoadTemporalLayers"].execute(model, VIDEO_LAYERS.name).result[0]


def test_from_clips_to_a_model_that_plays(pack, loaded, clips, tmp_path):
    model, clip, vae = loaded
    before = tiny.weights_hash(model)
    settings = FEW.replace("sample_every = 0", "sample_every = 2") + "sample_steps = 2\n"
    trained, file, loss, samples = train(
        pack, with_layers(pack, model), clips, clip, vae, settings=settings, prompts="a red square\na blue square\n"
    )
    assert file == "mine.safetensors" and tiny.weights_hash(model) == before
    state_dict, info = load_layers(tmp_path / "models" / "temporal_layers" / file)
    own, _ = load_layers(VIDEO_LAYERS)
    assert state_dict.keys() == own.keys() and any(not torch.equal(state_dict[k].float(), own[k].float()) for k in own)
    assert info.training["steps"] == 3 and check_layers(trained).training["recipe"] == "Motion for the pocket model"
    assert loss.shape == (1, 270, 480, 3) and samples.shape == (1, 2 * 64, 8 * 64, 3)
    made = {path.name for path in (tmp_path / "output" / "training" / "mine" / "samples").iterdir()}
    assert made == {f"motion-000002.{kind}" for kind in ("png", "mp4", "txt")}
    noise = torch.randn(8, 16, 8, 8)
    video = tiny.sample(
        trained, steps=1, noise=noise, positive=clip_text(clip, "a red square"), negative=clip_text(clip, "")
    )
    assert video.isfinite().all()


def test_cancel_keeps_the_last_checkpoint_and_the_next_run_goes_on(pack, loaded, clips, tmp_path, monkeypatch):
    model = with_layers(pack, loaded[0])

    def server_bar(value, total, preview, node_id=None):
        if value == 2:
            comfy.model_management.interrupt_current_processing(True)
            comfy.model_management.throw_exception_if_processing_interrupted()

    monkeypatch.setattr(comfy.utils, "PROGRESS_BAR_HOOK", server_bar)
    with pytest.raises(comfy.model_management.InterruptProcessingException):
        train(pack, model, clips, loaded[1])
    monkeypatch.setattr(comfy.utils, "PROGRESS_BAR_HOOK", None)
    file = tmp_path / "models" / "temporal_layers" / "mine.safetensors"
    assert load_layers(file)[1].training["steps"] == 2
    train(pack, model, clips, loaded[1])
    assert load_layers(file)[1].training["steps"] == 3
    with pytest.raises(ValueError, match="belongs to another run: seed was 0 and is 5"):
        train(pack, model, clips, loaded[1], seed=5)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"clips": None}, "There are no clips: write the name of a dataset"),
        ({"dataset": "absent"}, "Both a dataset and latents are given"),
        ({"dataset": "absent", "clips": None}, "absent is not a dataset: it has no index.json"),
        ({"name": "../x"}, "is not a valid name for temporal layers"),
        ({"settings": "stepz = 1"}, "stepz is not a key of a recipe; did you mean steps"),
        ({"clip": None}, "Connected latents need a CLIP"),
        ({"recipe": "motion_sd15_12gb"}, "is for sd15, but the model is pocket2"),
        ({"bare": True}, "continues temporal layers, but there are none"),
    ],
)
def test_what_is_missing_is_a_sentence(pack, loaded, clips, changes, message):
    options = {"clips": clips, "clip": loaded[1], **changes}
    model = loaded[0] if options.pop("bare", False) else with_layers(pack, loaded[0])
    with pytest.raises(ValueError, match=message):
        train(pack, model, **options)


def test_names_in_a_folder(pack, loaded, clips, tmp_path):
    settings = FEW.replace("save_every = 2", "save_every = 1")
    file = train(pack, with_layers(pack, loaded[0]), clips, loaded[1], name="styles/mine", steps=1, settings=settings)[
        1
    ]
    assert file == str(Path("styles/mine.safetensors"))
    assert (tmp_path / "models" / "temporal_layers" / file).is_file()


def test_images_are_not_clips(pack, loaded, clips):
    latents = [{"samples": torch.zeros(1, 4, 8, 8)}]
    with pytest.raises(ValueError, match="Clip 1 is not a video"):
        train(pack, with_layers(pack, loaded[0]), (latents, clips[1][:1]), loaded[1])
    with pytest.raises(ValueError, match="There are 4 clips, but 3 conditionings"):
        train(pack, with_layers(pack, loaded[0]), (clips[0], clips[1][:3]), loaded[1])


def test_a_motion_lora_is_not_trained_over(pack, loaded, clips):
    model = with_layers(pack, loaded[0]).clone()
    patcher = model.get_additional_models_with_key("emu_video")[0].clone()
    patcher.add_patches({"out.2.conv.weight": (torch.zeros(64, 64, 3),)})
    model.set_additional_models("emu_video", [patcher])
    with pytest.raises(ValueError, match="These temporal layers have a motion LoRA"):
        train(pack, model, clips, loaded[1])


def test_a_file_of_the_same_name_is_not_replaced(pack, loaded, clips, tmp_path):
    file = tmp_path / "models" / "temporal_layers" / "mine.safetensors"
    file.parent.mkdir(parents=True)
    file.write_bytes(b"downloaded")
    with pytest.raises(ValueError, match="has a file mine.safetensors already, .* choose another name"):
        train(pack, with_layers(pack, loaded[0]), clips, loaded[1])
    assert file.read_bytes() == b"downloaded" and not (tmp_path / "output").exists()


def test_a_folder_that_cannot_be_written_is_found_before_training(pack, loaded, clips, tmp_path):
    (tmp_path / "models").write_bytes(b"a file in place of the folder")
    with pytest.raises(ValueError, match="The trained layers cannot be saved in .*: make it a folder that can be writ"):
        train(pack, with_layers(pack, loaded[0]), clips, loaded[1])


def test_layers_in_use_are_not_lost(pack, loaded, clips, tmp_path, monkeypatch):
    """Windows does not replace a file from which a loaded MODEL reads."""

    def in_use(source, target):
        raise PermissionError(13, "in use")

    model, settings = with_layers(pack, loaded[0]), FEW.replace("save_every = 2", "save_every = 1")
    with monkeypatch.context() as windows:
        windows.setattr("emu_video.host.training_session.shutil.copyfile", in_use)
        with pytest.raises(ValueError, match=r"are in .*safetensors, but .*mine.safetensors is in use or read-only"):
            train(pack, model, clips, loaded[1], steps=1, settings=settings)
    train(pack, model, clips, loaded[1], steps=1, settings=settings)
    assert load_layers(tmp_path / "models" / "temporal_layers" / "mine.safetensors")[1].training["steps"] == 1


def test_shipped_recipes_are_choices(pack):
    inputs = {entry.id: entry for entry in pack["EmuVideoTrainTemporalLayers"].GET_SCHEMA().inputs}
    assert {"emu_video_paper", "motion_sd15_12gb", "motion_pocket"} <= set(inputs["recipe"].options)
    assert Path(VIDEO_LAYERS).is_file()


def test_a_dataset_that_is_prepared_again_is_trained_on_again(pack, tmp_path):
    node = pack["EmuVideoTrainTemporalLayers"]
    assert node.fingerprint_inputs(dataset=[str(tmp_path)]) == node.fingerprint_inputs(dataset=[None]) is None
    (tmp_path / "index.json").write_text("{}")
    before = node.fingerprint_inputs(dataset=[str(tmp_path)], steps=[0])
    assert before == node.fingerprint_inputs(dataset=[str(tmp_path)], steps=[0]) is not None
    (tmp_path / "index.json").write_text("{ }")
    assert node.fingerprint_inputs(dataset=[str(tmp_path)]) != before
    assert node.fingerprint_inputs(dataset=["../outside"]) is None  # the node itself says what is wrong
