"""The templates that train temporal layers and play the result."""

from __future__ import annotations

from .public_template_graphs import ANIMATEDIFF_URL, SD15, SD15_URL, animatediff
from .template_graphs import ImageStep, VideoStep, checkpoint, decode, layers, pocket_layers, save, text
from .templates import Group, Node, Template

ORBITS = "emu_video_orbits"
"""Clips that the pack copies into ComfyUI's input folder."""


def prepare(base: Node, folder: str, name: str, **settings) -> Node:
    encoders = {"model": base, "clip": base["CLIP"], "vae": base["VAE"]}
    return Node("EmuVideoPrepareClips", {"folder": folder, **encoders, "name": name, **settings}, prompt=True)


def train(base: Node, model: Node, clips: Node, recipe: str, **settings) -> tuple[Node, list[Node]]:
    """Return the training node, and previews of its curves and samples."""
    inputs = {"model": model, "recipe": recipe, "name": "my_motion", "dataset": clips["dataset"]}
    trained = Node("EmuVideoTrainTemporalLayers", inputs | {"clip": base["CLIP"], "vae": base["VAE"], **settings})
    curves = Node("PreviewImage", {"images": trained["loss"]}, "Loss")
    return trained, [curves, Node("PreviewImage", {"images": trained["samples"]}, "Samples")]


def pocket() -> Template:
    base = checkpoint()
    model = pocket_layers(base)
    clips = prepare(base, ORBITS, "orbits", width=128, height=128)
    trained, previews = train(base, model, clips, "motion_pocket", steps=300, settings="sample_every = 100")
    image = ImageStep(base, "a green star on a black background", 0)
    video = VideoStep(image, 0, "Emu Video Sampler", trained)
    _, *image_columns, last = image.columns
    motion = [image.columns[0][1:], *image_columns, [*last, *video.columns[0]], *video.columns[1:]]
    saved = [[node] for node in save(video.frames, 8)]
    rows = [
        [Group("1. Clips", [[base], [clips]]), Group("2. Training", [[model], [trained], previews])],
        [Group("3. Your motion", [*motion, *saved])],
    ]
    return Template("Train-Your-Own-Motion-Pocket", rows)


def on_animatediff() -> Template:
    base = checkpoint(SD15, SD15_URL)
    file = "v3_sd15_mm.ckpt"
    model = layers(base, file, f"{ANIMATEDIFF_URL}/{file}")
    clips = prepare(base, "my_clips", "my_clips", frames=16)
    trained, previews = train(base, model, clips, "motion_sd15_12gb")
    positive = text(base, "a caption as in your clips", "Prompt", prompt=True)
    latent, sampled = animatediff(base, trained, positive, 16)
    decoded = decode(sampled, base, "Decode video")
    texts = [positive, sampled.inputs["negative"], latent]
    rows = [
        [Group("1. Clips", [[base], [clips]]), Group("2. Training", [[model], [trained], previews])],
        [Group("3. Your motion", [texts, [sampled, decoded], *([node] for node in save(decoded, 8))])],
    ]
    return Template("Train-Your-Own-Motion-AnimateDiff", rows)


TEMPLATES = [pocket(), on_animatediff()]
