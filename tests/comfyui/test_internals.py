"""What the pack relies on inside ComfyUI: each entry says which of our files needs it, and for what.

A failure here, after ComfyUI was updated, says what has changed and where in the pack to follow it. Everything is
about `host/`, `nodes/` and `__init__.py`: no other room knows ComfyUI.
"""

from __future__ import annotations

import inspect
from typing import Any, NamedTuple

import comfy.lora
import comfy.model_base
import comfy.model_management
import comfy.model_patcher
import comfy.model_sampling
import comfy.ops
import comfy.sample
import comfy.samplers
import comfy.supported_models_base
import folder_paths
import latent_preview
import node_helpers
import pytest
import torch
from comfy.patcher_extension import WrappersMP
from comfy.weight_adapter.lora import LoRAAdapter
from emu_video.host.guards import NOT_FOR_FLOWS
from emu_video.temporal_layers.backbones import identify_base
from emu_video.tests.comfyui.names_used import find, names_used
from emu_video.tests.comfyui.tiny import FRAMES, LATENT, checkpoint, text

KEY = "tests"
USED = names_used()


@pytest.mark.parametrize("name", sorted(USED))
def test_name_exists(name):
    try:
        find(name)
    except AttributeError:
        pytest.fail(f"ComfyUI has no {name} any more: find what took its place and change {USED[name]}.", pytrace=False)


def test_the_list_is_not_empty():
    rooms = {where.split("/")[0] for where in USED.values()}
    assert {"host", "nodes"} <= rooms and len(USED) > 50


class Internal(NamedTuple):
    name: str
    takes: str
    """The parameters that we pass: by position, in this order; behind * by keyword."""
    protects: str


MODEL = "comfy.model_patcher.ModelPatcher"
INTERNALS = [
    Internal("comfy.samplers.CFGGuider", "model_patcher", "host/guider.py: the guider with three conditionings"),
    Internal("comfy.samplers.CFGGuider.inner_set_conds", "conds", "host/guider.py: a third, named conditioning"),
    Internal(
        "comfy.samplers.CFGGuider.predict_noise",
        "x timestep model_options seed",
        "host/guider.py: overridden with equation 1 of the paper",
    ),
    Internal(
        "comfy.samplers.CFGGuider.sample",
        "noise latent_image sampler sigmas * denoise_mask callback disable_pbar seed",
        "host/sampling.py: the all-in-one sampler; host/schedule.py: its order reaches the OUTER_SAMPLE wrapper",
    ),
    Internal(
        "comfy.samplers.calc_cond_batch",
        "model conds x_in timestep model_options",
        "host/guider.py: all conditionings in one call of the network",
    ),
    Internal("comfy.samplers.KSAMPLER", "sampler_function * extra_options", "host/sampling.py: DDIM as a SAMPLER"),
    Internal("comfy.sample.prepare_noise", "latent_image seed noise_inds", "host/sampling.py: noise of a seed"),
    Internal(
        "comfy.sample.fix_empty_latent_channels",
        "model latent_image downscale_ratio_spacial",
        "host/sampling.py: empty latents of stock nodes",
    ),
    Internal("latent_preview.prepare_callback", "model steps", "host/sampling.py: progress and preview"),
    Internal("comfy.utils.ProgressBar", "total", "host/optical_flow.py: progress"),
    Internal("comfy.utils.ProgressBar.update", "value", "host/optical_flow.py: progress"),
    Internal("comfy.model_management.free_memory", "memory_required device", "host/optical_flow.py: room on the GPU"),
    Internal("comfy.model_management.get_free_memory", "dev", "host/: refusals of what does not fit into memory"),
    Internal("comfy.model_management.archive_model_dtypes", "model", "host/injection.py: temporal weights as a model"),
    Internal("comfy.model_sampling.reshape_sigma", "sigma noise_dim", "host/schedule.py: sigmas for a batch"),
    Internal("comfy.model_sampling.ModelSamplingDiscrete.set_sigmas", "sigmas", "host/schedule.py: schedules of betas"),
    Internal(f"{MODEL}.set_additional_models", "key models", "host/injection.py: weights that ComfyUI manages"),
    Internal(f"{MODEL}.get_additional_models_with_key", "key", "host/injection.py: the layers of the model in hand"),
    Internal(f"{MODEL}.set_attachments", "key attachment", "host/injection.py: what is known of the layers"),
    Internal(f"{MODEL}.get_attachment", "key", "host/injection.py: what is known of the layers"),
    Internal(f"{MODEL}.remove_attachments", "key", "host/injection.py: new layers forget the old ones' settings"),
    Internal(f"{MODEL}.add_wrapper_with_key", "wrapper_type key wrapper", "host/injection.py and host/schedule.py"),
    Internal(f"{MODEL}.remove_wrappers_with_key", "wrapper_type key", "host/injection.py: layers replace layers"),
    Internal(f"{MODEL}.add_object_patch", "name obj", "host/schedule.py: the schedule of one clone"),
    Internal(f"{MODEL}.get_model_object", "name", "host/: a clone's model_sampling and latent_format"),
    Internal(f"{MODEL}.add_patches", "patches strength_patch", "host/layer_settings.py: motion LoRAs"),
    Internal(MODEL, "model load_device offload_device", "host/injection.py: temporal weights as a model"),
    Internal("comfy.model_base.BaseModel.get_dtype_inference", "", "host/injection.py: the layers' dtype"),
    Internal(
        "comfy.model_base.BaseModel", "model_config model_type device unet_model", "host/pocket.py: the pocket's model"
    ),
    Internal("comfy.model_base.BaseModel.encode_adm", "", "host/pocket.py: pooled text, overridden"),
    Internal("comfy.supported_models_base.BASE.matches", "unet_config state_dict", "host/pocket.py: overridden"),
    Internal("comfy.supported_models_base.BASE.get_model", "state_dict prefix device", "host/pocket.py: overridden"),
    Internal("comfy.supported_models_base.BASE.model_type", "state_dict prefix", "host/pocket.py: overridden"),
    Internal("comfy.supported_models_base.BASE.process_unet_state_dict", "state_dict", "host/pocket.py: overridden"),
    Internal(
        "comfy.supported_models_base.BASE.process_unet_state_dict_for_saving",
        "state_dict",
        "host/pocket.py: overridden, keeps the signature in saved checkpoints",
    ),
    Internal("comfy.supported_models_base.BASE.process_vae_state_dict", "state_dict", "host/pocket.py: overridden"),
    Internal("comfy.supported_models_base.ClipTarget", "tokenizer clip", "host/pocket.py: the text encoder"),
    Internal("comfy.sd1_clip.token_weights", "string current_weight", "host/pocket.py: (word:1.2) in prompts"),
    Internal("comfy.sd1_clip.ClipTokenWeightEncoder.encode_token_weights", "token_weight_pairs", "host/pocket.py"),
    Internal("comfy.sd.VAE.encode", "pixel_samples", "host/given_frames.py: latents of the given frames"),
    Internal("comfy.sd.VAE.decode", "samples_in", "host/given_frames.py: given latents at another size"),
    Internal("comfy.sd.VAE.spacial_compression_encode", "", "host/given_frames.py: refusal of odd sizes"),
    Internal(
        "comfy.utils.common_upscale", "samples width height upscale_method crop", "host/given_frames.py: resizing"
    ),
    Internal("comfy.sd.CLIP.tokenize", "text", "host/prompt_schedule.py: prompts of a schedule"),
    Internal("comfy.sd.CLIP.encode_from_tokens_scheduled", "tokens", "host/prompt_schedule.py: prompts of a schedule"),
    Internal("comfy_execution.graph_utils.ExecutionBlocker", "message", "nodes/second_pass.py: unused outputs"),
    Internal("comfy.latent_formats.LatentFormat.process_in", "latent", "host/conditioning.py: the network's scale"),
    Internal("comfy.weight_adapter.lora.LoRAAdapter", "loaded_keys weights", "host/layer_settings.py: motion LoRAs"),
    Internal("comfy_execution.utils.get_executing_context", "", "host/node_text.py: the node that shows a text"),
    Internal("server.PromptServer.send_progress_text", "text node_id", "host/node_text.py: a text on a node"),
    Internal("node_helpers.conditioning_set_values", "conditioning values", "host/conditioning.py: known frames"),
    Internal("folder_paths.add_model_folder_path", "folder_name full_folder_path", "host/folders.py: model folders"),
    Internal("folder_paths.get_full_path_or_raise", "folder_name filename", "nodes/: the file of a list's entry"),
    Internal("folder_paths.get_filename_list", "folder_name", "nodes/: the lists of files"),
    Internal(
        "comfy_api.latest.io.Schema",
        "* node_id display_name category description search_aliases inputs outputs is_input_list",
        "nodes/: every node's description",
    ),
    Internal("comfy_api.latest.io.Combo.Input", "id * options default optional advanced tooltip", "nodes/"),
    Internal("comfy_api.latest.io.Int.Input", "id * default min max control_after_generate tooltip", "nodes/"),
    Internal("comfy_api.latest.io.Float.Input", "id * default min max step round tooltip", "nodes/"),
    Internal("comfy_api.latest.io.Image.Output", "id * tooltip is_output_list", "nodes/conditioning.py: windows"),
]


@pytest.mark.parametrize("internal", INTERNALS, ids=lambda internal: internal.name)
def test_parameters(internal):
    advice = f"It protects {internal.protects}. See how ComfyUI itself calls it now and change that."
    try:
        parameters = inspect.signature(find(internal.name)).parameters
    except AttributeError:
        pytest.fail(f"ComfyUI has no {internal.name} any more. {advice}", pytrace=False)
    names = [name for name in parameters if name not in ("self", "cls")]
    positional, _, keywords = internal.takes.partition("*")
    expected = positional.split()
    if names[: len(expected)] != expected or set(keywords.split()) - set(names):
        pytest.fail(f"{internal.name} takes ({', '.join(names)}), we give ({internal.takes}). {advice}", pytrace=False)


@pytest.fixture(scope="module")
def seen() -> dict[str, Any]:
    """What ComfyUI hands to a guider, to wrappers, to a sampler and to the network in one step of sampling."""
    seen: dict[str, Any] = {}

    class Guider(comfy.samplers.CFGGuider):
        def predict_noise(self, x, timestep, model_options=None, seed=None):
            seen["guider"] = (x, timestep, model_options, seed)
            conds: list[Any] = [self.conds["first"], None, self.conds["third"]]
            seen["predictions"] = comfy.samplers.calc_cond_batch(self.inner_model, conds, x, timestep, model_options)
            return seen["predictions"][0]

    def apply_model(executor, *args, **kwargs):
        seen["apply_model"] = executor.class_obj, executor.class_obj.current_patcher, args, kwargs
        return executor(*args, **kwargs)

    def outer_sample(executor, *args, **kwargs):
        seen["outer_sample"] = executor.class_obj, executor.class_obj.conds, args
        return executor(*args, **kwargs)

    def network(x, timesteps, context=None, **kwargs):
        seen["network"] = x
        return torch.zeros_like(x[:, : LATENT[0]])

    def sampler(model, x, sigmas, extra_args: Any, callback: Any, disable=None, **options):
        seen["sampler"] = model.inner_model.inner_model, extra_args, options
        callback({"x": x, "i": 0, "sigma": sigmas[0], "sigma_hat": sigmas[0], "denoised": x})
        return model(x, sigmas[0] * x.new_ones(len(x)), **extra_args)

    with torch.inference_mode():
        model = checkpoint().clone()
        model.set_attachments(KEY, "attached")
        model.add_wrapper_with_key(WrappersMP.APPLY_MODEL, KEY, apply_model)
        model.add_wrapper_with_key(WrappersMP.OUTER_SAMPLE, KEY, outer_sample)
        model.add_object_patch("diffusion_model.forward", network)
        known = torch.full((FRAMES, LATENT[0] + 1, *LATENT[1:]), 3.0)
        guider = Guider(model)
        guider.inner_set_conds({"first": text(1, known_frames=known), "third": text(2, known_frames=known)})
        noise = torch.randn(FRAMES, *LATENT)
        sigmas = torch.tensor([1.0, 0.0])
        ksampler = comfy.samplers.KSAMPLER(sampler, extra_options={"eta": 0.5})
        seen["callback"] = []
        guider.sample(
            noise,
            torch.zeros_like(noise),
            ksampler,
            sigmas,
            callback=lambda *args: seen["callback"].append(args),
            seed=9,
        )
        seen["model"], seen["known"], seen["ksampler"] = model, known, ksampler
    return seen


def test_guider_gets_its_own_conditionings(seen):
    x, timestep, model_options, seed = seen["guider"]
    assert x.shape == (FRAMES, *LATENT) and len(timestep) == FRAMES and seed == 9, (
        "CFGGuider.predict_noise is called differently: host/guider.py overrides it."
    )
    assert isinstance(model_options, dict)
    assert len(seen["predictions"]) == 3 and torch.count_nonzero(seen["predictions"][1]) == 0, (
        "calc_cond_batch no longer takes None for a conditioning to leave out: host/guider.py leaves out those whose "
        "weight is 0."
    )


def test_apply_model_wrapper(seen):
    model, patcher, args, kwargs = seen["apply_model"]
    options = args[5] if len(args) == 6 else None
    assert isinstance(options, dict), (
        f"APPLY_MODEL wrappers get {len(args)} positional arguments and {sorted(kwargs)}: host/injection.py's wrapper "
        "takes (executor, x, t, c_concat, c_crossattn, control, transformer_options, **conds)."
    )
    assert model is seen["model"].model and patcher.get_attachment(KEY) == "attached", (
        "executor.class_obj of an APPLY_MODEL wrapper is not the model with its current_patcher: host/injection.py "
        "finds the temporal layers through it."
    )
    assert args[0].shape[0] == FRAMES * len(options["cond_or_uncond"]), (
        "transformer_options['cond_or_uncond'] does not say how many conditionings share a batch: host/injection.py "
        "counts the frames of one video by it."
    )


def test_noise_concat_reaches_the_network(seen):
    x = seen["network"]
    assert x.shape[1] == 2 * LATENT[0] + 1 and torch.equal(x[:FRAMES, LATENT[0] :], seen["known"]), (
        "The conditioning key noise_concat is no longer appended, unscaled, to the noisy latent's channels: "
        "host/conditioning.py (NOISE_CONCAT) gives the known frames by it; BaseModel.extra_conds says how now."
    )


def test_outer_sample_wrapper(seen):
    guider, conds, args = seen["outer_sample"]
    noise, latent_image, sampler, sigmas = args[:4]
    assert noise.shape == latent_image.shape == (FRAMES, *LATENT) and len(sigmas) == 2
    assert guider.model_patcher.get_attachment(KEY) == "attached"
    assert "noise_concat" in conds["first"][0] and sampler is seen["ksampler"], (
        "OUTER_SAMPLE wrappers no longer get (noise, latent_image, sampler, sigmas, ...) and a guider with conds: "
        "host/schedule.py refuses wrong set-ups there."
    )


def test_sampler_function(seen):
    model, extra_args, options = seen["sampler"]
    assert hasattr(model, "model_sampling") and extra_args["seed"] == 9 and options == {"eta": 0.5}, (
        "A sampler function no longer gets model.inner_model.inner_model, the seed in extra_args and its "
        "extra_options: host/sampling.py (sample_ddim) is one."
    )
    (step, x0, x, total) = seen["callback"][0]
    assert (step, total) == (0, 1) and x0.shape == x.shape == (FRAMES, *LATENT), (
        "A sampler's callback no longer becomes (step, x0, x, total_steps): host/sampling.py shows previews by it."
    )


def test_clones_keep_what_hangs_on_a_model(model):
    weights = comfy.model_patcher.CoreModelPatcher(torch.nn.Linear(2, 2), torch.device("cpu"), torch.device("cpu"))
    model.set_additional_models(KEY, [weights])
    model.set_attachments(KEY, "first")
    clone = model.clone()
    clone.set_attachments(KEY, "second")
    kept = clone.get_additional_models_with_key(KEY)[0].model
    assert kept is weights.model and (model.get_attachment(KEY), clone.get_attachment(KEY)) == ("first", "second"), (
        "A clone of a MODEL no longer carries additional models, or shares its attachments: host/injection.py and "
        "host/layer_settings.py set both on clones."
    )


def test_lora_patch_on_an_additional_model():
    linear = comfy.ops.manual_cast.Linear(3, 2, bias=False)
    linear.load_state_dict({"weight": torch.zeros(2, 3)}, assign=True)
    up, down = torch.randn(2, 1), torch.randn(1, 3)
    weights = comfy.model_patcher.ModelPatcher(linear, torch.device("cpu"), torch.device("cpu"))
    weights.add_patches({"weight": LoRAAdapter(set(), (up, down, None, None, None, None))}, 0.5)
    value = comfy.lora.calculate_weight(weights.patches["weight"], torch.zeros(2, 3), "weight")
    assert torch.allclose(value, 0.5 * up @ down), (
        "LoRAAdapter no longer takes (up, down, alpha, mid, dora_scale, reshape): host/layer_settings.py merges "
        "motion LoRAs with it."
    )


@pytest.mark.parametrize("layer", ["Linear", "Conv2d", "GroupNorm", "LayerNorm", "Embedding"])
def test_operations(layer):
    assert issubclass(getattr(comfy.ops.manual_cast, layer), getattr(torch.nn, layer)), (
        f"comfy.ops.manual_cast has no {layer}: temporal_layers/ and pocket/ are built of it (host/injection.py, "
        "host/pocket.py)."
    )


@pytest.mark.parametrize("function", NOT_FOR_FLOWS)
def test_names_of_refused_samplers(function):
    name = NOT_FOR_FLOWS[function]
    found = comfy.samplers.sampler_object(name).sampler_function.__name__
    assert found == function, (
        f"The sampler {name} is the function {found} now: correct NOT_FOR_FLOWS in host/schedule.py."
    )


def test_flow_sampling():
    flow = comfy.model_sampling.CONST()
    noise, latent = torch.randn(2, 4, 2, 2), torch.randn(2, 4, 2, 2)
    for s in (0.0, 0.25, 1.0):
        mixed = flow.noise_scaling(torch.tensor(s), noise, latent)
        assert torch.allclose(mixed, s * noise + (1 - s) * latent), (
            "CONST no longer mixes s noise + (1 - s) latent: host/schedule.py's ZeroSNRFlow is exact because it does."
        )


def test_schedule_of_betas():
    class Sampling(comfy.model_sampling.ModelSamplingDiscrete, comfy.model_sampling.EPS):
        pass

    sampling = Sampling()
    sampling.set_sigmas(torch.linspace(0.1, 9.0, 10))
    assert torch.allclose(sampling.sigmas, torch.linspace(0.1, 9.0, 10)) and sampling.sigma_max == 9.0, (
        "ModelSamplingDiscrete.set_sigmas no longer sets the table `sigmas`: host/schedule.py, host/sampling.py."
    )


def test_schedule_is_known_to_a_model(model):
    assert isinstance(model.model.model_config.sampling_settings, dict), (
        "model_config.sampling_settings is gone: host/schedule.py (native_schedule) reads a checkpoint's betas there."
    )
    assert model.get_model_object("latent_format").latent_channels == LATENT[0], "host/conditioning.py needs it."


def test_unet_is_recognised(model):
    assert identify_base(model.model.diffusion_model) == "pocket", (
        "ComfyUI's UNetModel has other names or modules: temporal_layers/backbones/unet.py finds convolutions, spatial "
        "transformers and residual blocks by their attributes."
    )


def test_base_of_supported_models():
    base = comfy.supported_models_base.BASE
    ours = (
        "unet_config unet_extra_config latent_format sampling_settings memory_usage_factor supported_inference_dtypes"
    )
    missing = [name for name in ours.split() if not hasattr(base, name)]
    assert not missing, f"BASE has no {missing} any more: host/pocket.py describes the pocket model by them."


def test_noise_by_place_in_the_video():
    whole = comfy.sample.prepare_noise(torch.zeros(4, *LATENT), 5, [0, 1, 2, 3])
    part = comfy.sample.prepare_noise(torch.zeros(2, *LATENT), 5, [2, 3])
    assert torch.equal(part, whole[2:]), (
        "batch_index no longer draws the same noise for the same frame: host/conditioning.py gives it to windows."
    )


def test_conditioning_is_copied():
    given = text(1)
    changed = node_helpers.conditioning_set_values(given, {"noise_concat": torch.zeros(1)})
    assert "noise_concat" not in given[0][1] and "noise_concat" in changed[0][1], (
        "conditioning_set_values changes what it is given: host/conditioning.py makes three of two."
    )


def test_a_folder_type_of_our_own(tmp_path):
    (tmp_path / "a.safetensors").touch()
    folder_paths.add_model_folder_path("emu_video_tests", str(tmp_path))
    paths, extensions = folder_paths.folder_names_and_paths.pop("emu_video_tests")
    assert str(tmp_path) in paths and isinstance(extensions, set), (
        "folder_names_and_paths is no longer name -> (paths, set of extensions): host/folders.py sets them."
    )


def test_preview_callback(model):
    callback = latent_preview.prepare_callback(model, 2)
    assert list(inspect.signature(callback).parameters) == ["step", "x0", "x", "total_steps"], (
        "ComfyUI's preview callback takes other arguments: host/sampling.py wraps it."
    )


def test_stop_button():
    comfy.model_management.interrupt_current_processing(True)
    with pytest.raises(comfy.model_management.InterruptProcessingException):
        comfy.model_management.throw_exception_if_processing_interrupted()
    comfy.model_management.throw_exception_if_processing_interrupted()  # it stops once
