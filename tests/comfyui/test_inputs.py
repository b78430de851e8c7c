"""What links bring to a node: constants, values of another type, empty and broken ones."""

import math

import pytest
import torch
from emu_video.host.inputs import WANTED, check_inputs
from emu_video.nodes import MODULES
from emu_video.nodes.conditioning import FirstFrameConditioning, JoinVideo
from emu_video.nodes.layer_settings import TemporalLayerStrength
from emu_video.nodes.sampling import EmuVideoSampler
from emu_video.nodes.schedules import ValueSchedule
from emu_video.tests.comfyui import tiny

NODES = [node for module in MODULES for node in module.NODES]
INPUTS = [(node.define_schema(), each) for node in NODES for each in node.define_schema().inputs]


@pytest.mark.parametrize("schema, each", INPUTS, ids=lambda value: getattr(value, "node_id", None) or value.id)
def test_every_input_refuses_values_of_another_type(schema, each):
    kinds = each.get_io_type().split(",")
    assert all(kind in WANTED or kind == "BOOLEAN" for kind in kinds)
    for value in (object(), {"a": 1}, [object()], 1j):
        if kinds != ["BOOLEAN"]:
            with pytest.raises(ValueError, match=rf"The input {each.id} of .+ (is|has) .+: .+\.$") as refusal:
                check_inputs(schema.display_name, schema.inputs, {each.id: value})
            assert schema.display_name in str(refusal.value)


LATENT = torch.zeros(4, 4, 8, 8)
NAN_MASK = torch.full((1, 8, 8), math.nan)


@pytest.mark.parametrize(
    "kind, value, message",
    [
        ("MODEL", None, "is empty .None., not a MODEL: connect the MODEL output of Load Checkpoint"),
        ("CONDITIONING", [], "has no entries"),
        ("CONDITIONING", 5, "is the number 5, not a CONDITIONING: connect CLIP Text Encode"),
        ("CONDITIONING", [[None, {}]], "a text that is empty"),
        ("CONDITIONING", [[torch.ones(7, 8), {}]], r"tensor of shape \[7, 8\]"),
        ("CONDITIONING", [[torch.full((1, 7, 8), math.nan), {}]], "NaN"),
        ("CONDITIONING", [[torch.ones(1, 7, 8), {"mask_strength": math.inf}]], "has the mask strength inf: connect"),
        (
            "CONDITIONING",
            [[torch.ones(1, 7, 8), {"mask": NAN_MASK}]],
            "has a mask with values that are NaN or infinite",
        ),
        ("LATENT", {"samples": torch.zeros(1, 4, 8, 8), "noise_mask": NAN_MASK}, "has a noise mask with values that"),
        ("CONDITIONING", [[torch.ones(1, 7, 8), {"strength": math.nan}]], "has the strength nan: connect"),
        ("LATENT", {}, "a dict of 0 entries, not a LATENT"),
        ("LATENT", {"samples": torch.zeros(1, 4, 4, 8, 8)}, "whole video of a video model"),
        ("LATENT", {"samples": torch.nested.nested_tensor([LATENT, LATENT[:2]])}, "whole video of a video model"),
        ("LATENT", {"samples": LATENT[0]}, r"shape \[4, 8, 8\], which is not a batch"),
        ("LATENT", {"samples": LATENT / 0}, "NaN or infinite"),
        ("LATENT", {"samples": LATENT.int()}, "type int32"),
        ("IMAGE", torch.ones(0, 8, 8, 3), r"is empty \(shape \[0, 8, 8, 3\]\)"),
        ("IMAGE", torch.ones(8, 8, 3), "not a batch of frames"),
        ("IMAGE", torch.full((1, 8, 8, 3), -math.inf), "NaN or infinite"),
        ("MASK", torch.tensor(1.0), r"shape \[\]"),
        ("FLOATS", 0.5, "is the number 0.5, not a list of numbers: connect Value Schedule"),
        ("FLOATS", ["a"], "a list of 1 entries"),
    ],
)
def test_reasons(kind, value, message):
    (schema, each) = next(pair for pair in INPUTS if pair[1].get_io_type() == kind)
    with pytest.raises(ValueError, match=message):
        check_inputs(schema.display_name, schema.inputs, {each.id: value})


def test_right_values_pass_as_they_are(video_model, vae):
    image = torch.rand(1, 64, 64, 3)
    *_, latent = FirstFrameConditioning.execute(video_model, vae, image, tiny.text(1), tiny.text(2), 4).args
    assert latent["samples"].shape == LATENT.shape
    assert TemporalLayerStrength.execute(video_model, 1, 1, per_frame=[0, 0.5, 1, True]).args


def test_a_node_refuses_before_it_runs(video_model, vae):
    image = torch.rand(1, 64, 64, 3)
    with pytest.raises(ValueError, match="The input positive of First Frame Conditioning is the number 3, not a COND"):
        FirstFrameConditioning.execute(video_model, vae, image, 3, tiny.text(2), 4)
    with pytest.raises(ValueError, match='The input latent of Emu Video Sampler is the text "a", not a LATENT'):
        EmuVideoSampler.execute(
            model=video_model, positive=tiny.text(1), image_only=tiny.text(1), negative=tiny.text(1), latent="a",
            seed=0, steps=1, text_guidance=1.0, image_guidance=1.0, guidance_rescale=0.0, eta=0.0,
        )  # fmt: skip
    with pytest.raises(ValueError, match="The input layout of Join Video is the number 7, not a layout"):
        JoinVideo.execute(images=[image], layout=[7])


def test_linked_numbers_have_the_limits_of_typed_ones():
    with pytest.raises(ValueError, match="frames of Value Schedule is the number 4097, above the limit of 4096"):
        ValueSchedule.execute("0: 1", 4097)
    with pytest.raises(ValueError, match="frames of Value Schedule is a very large number, above the limit of 4096"):
        ValueSchedule.execute("0: 1", 10**30)
    with pytest.raises(ValueError, match="frames of Value Schedule is the number -1, below the limit of"):
        ValueSchedule.execute("0: 1", -1)
    with pytest.raises(ValueError, match="needs at least one frame, not 0: set frames to those of the video"):
        ValueSchedule.execute("0: 1", 0)


def test_an_input_that_does_not_exist_is_a_sentence():
    with pytest.raises(ValueError, match="Value Schedule has no input keys: remove it from the prompt"):
        ValueSchedule.execute(values="0: 1", frames=2, keys=3)


def test_linked_names_are_entries_of_the_list(video_model):
    with pytest.raises(
        ValueError, match='The input guidance of Emu Video Guider is the text "b", not one of as trained'
    ):
        from emu_video.nodes.sampling import EmuVideoGuider

        EmuVideoGuider.execute(video_model, tiny.text(1), tiny.text(1), tiny.text(1), 1.0, 1.0, 0.0, "b")
