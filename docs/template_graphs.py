"""The templates of the pocket model, and the pieces of all templates."""

from __future__ import annotations

from ..pocket.shipped import checkpoint_file, layers_file
from .templates import Group, Node, Template

POCKET = checkpoint_file()


def checkpoint(name: str = POCKET, address: str = "") -> Node:
    files = {"ckpt_name": address} if address else {}
    return Node("CheckpointLoaderSimple", {"ckpt_name": name}, files=files, folder="checkpoints")


def layers(model: Node, name: str, address: str = "", title: str = "") -> Node:
    files = {"temporal_layers": address} if address else {}
    inputs = {"model": model, "temporal_layers": name}
    return Node("EmuVideoLoadTemporalLayers", inputs, title, files=files, folder="temporal_layers")


def text(base: Node, words, title: str, prompt: bool = False) -> Node:
    return Node("CLIPTextEncode", {"clip": base["CLIP"], "text": words}, title, prompt)


def null_text(base: Node) -> Node:
    return Node("CLIPTextEncode", {"clip": base["CLIP"], "text": ""}, "Null text", collapsed=True)


def decode(samples, base: Node, title: str) -> Node:
    return Node("VAEDecode", {"samples": samples, "vae": base["VAE"]}, title, collapsed=True)


def save(images, fps: float) -> list[Node]:
    video = Node("CreateVideo", {"images": images, "fps": fps})
    return [video, Node("SaveVideo", {"video": video, "filename_prefix": "emu_video", "format": "mp4"})]


def sampler(model, conditioning: Node, title: str, seed: int, steps: int = 12, **inputs) -> Node:
    """Return the node that samples all frames. The pocket follows its texts without guidance, see docs/laws.md."""
    links = {name: conditioning[name] for name in ("positive", "image_only", "negative", "latent")}
    guidance = {"text_guidance": 1.0, "image_guidance": 1.0, "guidance": "as set"} | inputs
    return Node("EmuVideoSampler", {"model": model, **links, "seed": seed, "steps": steps, **guidance}, title)


def pocket_layers(base: Node, role: str = "video") -> Node:
    title = "" if role == "video" else f"Load Temporal Layers ({role})"
    return layers(base, layers_file(role), title=title)


class ImageStep:
    """Text to the first frame, with the checkpoint as it is."""

    def __init__(self, base: Node, prompt: str, seed: int):
        self.base = base
        self.prompt = Node("PrimitiveStringMultiline", {"value": prompt}, "Prompt", prompt=True)
        self.image_text = text(base, self.prompt, "Image prompt")
        self.video_text = text(base, self.prompt, "Video prompt")
        self.null = null_text(base)
        size = {"width": 128, "height": 128, "batch_size": 1}
        self.latent = Node("EmptyLatentImage", size)
        inputs = {"model": base, "positive": self.image_text, "negative": self.null, "latent_image": self.latent}
        settings = {"seed": seed, "steps": 25, "cfg": 2.0, "sampler_name": "euler_ancestral", "scheduler": "simple"}
        self.sampled = Node("KSampler", inputs | settings, "Sample first frame")
        self.frame = decode(self.sampled, base, "Decode first frame")
        preview = Node("PreviewImage", {"images": self.frame}, "First frame")
        self.columns = [
            [base, self.prompt, self.image_text, self.video_text, self.null],
            [self.latent, self.sampled],
            [self.frame, preview],
        ]


class OwnImage:
    """A picture of the user's as the first frame."""

    def __init__(self, base: Node, prompt: str):
        self.base = base
        picture = Node("LoadImage", {"image": "emu_video_first_frame.png"}, "Your image", prompt=True)
        self.video_text = text(base, prompt, "Prompt", prompt=True)
        self.null = null_text(base)
        size = {"width": 128, "height": 128, "upscale_method": "area", "crop": "center"}
        self.frame = Node("ImageScale", {"image": picture, **size}, "Crop to 128 × 128")
        self.columns = [[base, picture], [self.video_text, self.null, self.frame]]


class VideoStep:
    """First frame and text to 8 frames. model: with other temporal layers than the pocket's."""

    def __init__(self, image: ImageStep | OwnImage, seed: int, title: str = "Sample video", model: Node | None = None):
        base = image.base
        self.model = model or pocket_layers(base)
        inputs = {"vae": base["VAE"], "image": image.frame, "positive": image.video_text, "negative": image.null}
        self.conditioning = Node("EmuVideoFirstFrame", {"model": self.model, **inputs, "frames": 8})
        self.sampled = sampler(self.model, self.conditioning, title, seed, eta=1.0)
        self.frames = decode(self.sampled, base, "Decode video")
        self.columns = [[*([] if model else [self.model]), self.conditioning], [self.sampled, self.frames]]


class InterpolationStep:
    """8 frames to 37."""

    def __init__(self, image: ImageStep | OwnImage, video: VideoStep, seed: int):
        base = image.base
        model = pocket_layers(base, "interpolation")
        texts = {"positive": image.video_text, "negative": image.null}
        inputs = {
            "model": model,
            "vae": base["VAE"],
            "frames": video.frames,
            **texts,
            "noise_level": 0,
            "seed": seed + 1,
        }
        conditioning = Node("EmuVideoInterpolation", inputs, seed="fixed")
        sampled = sampler(model, conditioning, "Sample frames between", seed, 8, eta=1.0)
        frames = decode(sampled, base, "Decode frames")
        joining = {"images": frames, "layout": conditioning["layout"]}
        self.joined = Node("EmuVideoJoin", joining)
        preview = Node("PreviewImage", {"images": video.frames}, "8 frames")
        self.columns = [[model, conditioning], [sampled], [preview, frames, self.joined]]


class SuperResolutionStep:
    """37 frames to 37 of twice the size, in windows."""

    def __init__(self, image: ImageStep | OwnImage, between: InterpolationStep, seed: int):
        base = image.base
        model = pocket_layers(base, "super_resolution")
        texts = {"positive": image.video_text, "negative": image.null}
        inputs = {"model": model, "vae": base["VAE"], "frames": between.joined, **texts}
        settings = {"factor": 2, "noise_level": 0, "seed": seed + 1}
        conditioning = Node("EmuVideoSuperResolution", inputs | settings, seed="fixed")
        sampled = sampler(model, conditioning, "Sample sharp frames", seed, 8)
        frames = decode(sampled, base, "Decode sharp frames")
        joined = Node("EmuVideoJoin", {"images": frames, "layout": conditioning["layout"]}, "Join sharp frames")
        self.frames = Node("EmuVideoMatchSmallVideo", {"images": joined, "small": between.joined, "strength": 1.0})
        preview = Node("PreviewImage", {"images": between.joined}, "37 frames")
        self.columns = [[model, conditioning], [sampled], [preview, frames, joined, self.frames]]


def text_to_video() -> Template:
    image = ImageStep(checkpoint(), "a red circle moving right", 0)
    video = VideoStep(image, 0, "Emu Video Sampler")
    steps = [Group("1. First frame", image.columns), Group("2. Video", [*video.columns, save(video.frames, 8)])]
    return Template("Text-to-Video-Pocket", [steps])


def text_to_video_cascade() -> Template:
    image = ImageStep(checkpoint(), "a red circle moving right", 1)
    video = VideoStep(image, 2)
    between = InterpolationStep(image, video, 3)
    steps = [Group("1. First frame", image.columns), Group("2. Video", video.columns)]
    last = Group("3. Interpolation", [*between.columns, save(between.joined, 32)])
    return Template("Text-to-Video-Cascade-Pocket", [steps, [last]])


def text_to_video_super_resolution() -> Template:
    """The whole cascade: temporal super-resolution (frames between the frames), then spatial (larger frames)."""
    image = ImageStep(checkpoint(), "a red circle moving right", 1)
    video = VideoStep(image, 2)
    between = InterpolationStep(image, video, 3)
    large = SuperResolutionStep(image, between, 5)
    # In fewer columns, so that the graph is readable when it opens.
    before, sampled, (preview, *after) = between.columns
    steps = [Group("1. First frame", image.columns), Group("2. Video", [*video.columns, [preview]])]
    third = Group("3. Interpolation (temporal super-resolution)", [before, [*sampled, *after]])
    last = Group("4. Super-resolution", [*large.columns, save(large.frames, 32)])
    return Template("Text-to-Video-Super-Resolution-Pocket", [steps, [third, last]])


def animate_image() -> Template:
    image = OwnImage(checkpoint(), "a red star moving right on a white background")
    video = VideoStep(image, 0, "Emu Video Sampler")
    steps = [Group("1. Your image", image.columns), Group("2. Video", [*video.columns, save(video.frames, 8)])]
    return Template("Animate-Image-Pocket", [steps])


def animate_image_interpolated() -> Template:
    image = OwnImage(checkpoint(), "a red star moving right on a white background")
    video = VideoStep(image, 2)
    between = InterpolationStep(image, video, 3)
    steps = [Group("1. Your image", image.columns), Group("2. Video", video.columns)]
    last = Group("3. Interpolation", [*between.columns, save(between.joined, 32)])
    return Template("Animate-Image-Interpolated-Pocket", [steps, [last]])


def extend_three_prompts() -> Template:
    image = ImageStep(checkpoint(), "a red circle moving right", 1)
    video = VideoStep(image, 2)
    base, frames, clips = image.base, video.frames, []
    for number, words in ((2, "a red circle moving down"), (3, "a red circle moving left")):
        prompt = text(base, words, f"Prompt {number}", prompt=True)
        texts = {"positive": prompt, "negative": image.null}
        inputs = {"model": video.model, "vae": base["VAE"], "video": frames, **texts, "frames": 8, "known": 1}
        conditioning = Node("EmuVideoExtend", inputs)
        sampled = sampler(video.model, conditioning, f"Sample clip {number}", number + 1, eta=1.0)
        decoded = decode(sampled, base, f"Decode clip {number}")
        joining = {"images": decoded, "layout": conditioning["layout"], "frames": frames}
        frames = Node("EmuVideoJoin", joining)
        clips.append([[prompt, conditioning], [sampled, decoded, frames]])
    first = [Group("1. First prompt", [*image.columns, *video.columns])]
    second = [Group("2. Second prompt", clips[0]), Group("3. Third prompt", [*clips[1], save(frames, 8)])]
    return Template("Extend-Three-Prompts-Pocket", [first, second])


TEMPLATES = [
    text_to_video(),
    text_to_video_cascade(),
    text_to_video_super_resolution(),
    animate_image(),
    animate_image_interpolated(),
    extend_three_prompts(),
]
