"""Pictures of nodes for their help pages, and of graphs for the list of templates, from ComfyUI's own front end.

COMFYUI_PATH=... python -m emu_video.docs.screenshots            every node: web/docs/<node id>.jpg
COMFYUI_PATH=... python -m emu_video.docs.screenshots NAME ...   these templates: workflows/<NAME>.jpg
Needs Chromium and the packages of the tests.
"""

from __future__ import annotations

import io
import json
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from PIL import Image
from playwright.sync_api import Page, Route, sync_playwright

from ..launcher import comfyui, server
from ..launcher.environment import ROOT
from ..pocket.shipped import layers_file

FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"]
FLAGS += ["--disable-component-update", "--disable-sync"]
WIDTH, HEIGHT = 1600, 1000
NODE_SIZE, GRAPH_SIZE = (720, 480), (1280, 800)  # pixels of the finished pictures, at most
MARGIN, TITLE, GAP = 24, 30, 70

LAYERS = "EmuVideoLoadTemporalLayers"
SAMPLER = "EmuVideoSampler"
CHECKPOINT = "CheckpointLoaderSimple"
VIDEO_FILE = layers_file("video")
FILES = {  # of Load Temporal Layers, where a scene is not about the pocket's videos
    "EmuVideoInterpolation": layers_file("interpolation"),
    "EmuVideoLoadMotionLoRA": "mm_sd_v15_v2.ckpt",
    "EmuVideoTemporalStrength": "mm_sd_v15_v2.ckpt",
    "EmuVideoFrameRateAndMotion": "mp_rank_00_model_states.pt",
    "EmuVideoAffinity": "pia.ckpt",
}
TEXTS = (("CLIPTextEncode", 0, "positive"), ("CLIPTextEncode", 0, "negative"))
CONDITIONED = tuple((i, SAMPLER, name) for i, name in enumerate(("positive", "image_only", "negative", "latent")))
# Node id -> (what comes before it: node, output, our input; what comes after it: our output, node, input).
SCENES: dict[str, tuple[tuple, tuple]] = {
    LAYERS: (((CHECKPOINT, 0, "model"),), ((0, "EmuVideoFirstFrame", "model"),)),
    "EmuVideoFirstFrame": (((LAYERS, 0, "model"), ("VAEDecode", 0, "image"), *TEXTS), CONDITIONED),
    "EmuVideoFirstLast": (((LAYERS, 0, "model"), ("LoadImage", 0, "first"), ("LoadImage", 0, "last")), CONDITIONED),
    "EmuVideoKnownFrames": (((LAYERS, 0, "model"), ("LoadImage", 0, "images"), *TEXTS), CONDITIONED),
    "EmuVideoExtend": (((LAYERS, 0, "model"), ("VAEDecode", 0, "video"), *TEXTS), CONDITIONED),
    "EmuVideoInterpolation": (((LAYERS, 0, "model"), ("VAEDecode", 0, "frames"), *TEXTS), CONDITIONED),
    "EmuVideoJoin": (
        (("VAEDecode", 0, "images"), ("EmuVideoInterpolation", 4, "layout")),
        ((0, "CreateVideo", "images"),),
    ),
    SAMPLER: (
        ((LAYERS, 0, "model"), *(("EmuVideoFirstFrame", i, name) for i, _, name in CONDITIONED)),
        ((0, "VAEDecode", "samples"),),
    ),
    "EmuVideoGuider": (
        ((LAYERS, 0, "model"), *(("EmuVideoFirstFrame", i, name) for i, _, name in CONDITIONED[:3])),
        ((0, "SamplerCustomAdvanced", "guider"),),
    ),
    "EmuVideoDDIM": ((), ((0, "SamplerCustomAdvanced", "sampler"),)),
    "EmuVideoTrailingSteps": (((LAYERS, 0, "model"),), ((0, "SamplerCustomAdvanced", "sigmas"),)),
    "EmuVideoZeroSNR": (((CHECKPOINT, 0, "model"),), ((0, "KSampler", "model"),)),
    "EmuVideoOscillatingGuidance": (((LAYERS, 0, "model"),), ((0, SAMPLER, "model"),)),
    "EmuVideoInterpolateFlow": ((("VAEDecode", 0, "images"),), ((0, "CreateVideo", "images"),)),
    "EmuVideoLoadMotionLoRA": (((LAYERS, 0, "model"),), ((0, "KSampler", "model"),)),
    "EmuVideoTemporalStrength": (((LAYERS, 0, "model"),), ((0, "KSampler", "model"),)),
    "EmuVideoFrameRateAndMotion": (((LAYERS, 0, "model"),), ((0, "EmuVideoFirstFrame", "model"),)),
    "EmuVideoPromptSchedule": (((CHECKPOINT, 1, "clip"),), ((0, "KSampler", "positive"),)),
    "EmuVideoValueSchedule": ((), ((0, "EmuVideoTemporalStrength", "per_frame"),)),
    "EmuVideoSuperResolution": (((LAYERS, 0, "model"), ("VAEDecode", 0, "frames"), *TEXTS), CONDITIONED),
    "EmuVideoResizeKnownFrames": (
        ((LAYERS, 0, "model"), ("LatentUpscaleBy", 0, "latent"), ("EmuVideoFirstFrame", 0, "positive")),
        ((0, "KSampler", "positive"), (2, "KSampler", "negative"), (3, "KSampler", "latent_image")),
    ),
    "EmuVideoMatchSmallVideo": (
        (("EmuVideoJoin", 0, "images"), ("VAEDecode", 0, "small")),
        ((0, "CreateVideo", "images"),),
    ),
    "EmuVideoPrepareClips": (
        tuple((CHECKPOINT, i, name) for i, name in enumerate(("model", "clip", "vae"))),
        ((0, "EmuVideoTrainTemporalLayers", "dataset"), (1, "PreviewImage", "images")),
    ),
    "EmuVideoTrainTemporalLayers": (
        ((LAYERS, 0, "model"), ("EmuVideoPrepareClips", 0, "dataset")),
        ((0, "EmuVideoFirstFrame", "model"), (2, "PreviewImage", "images")),
    ),
    "EmuVideoAffinity": (
        ((LAYERS, 0, "model"), ("LoadImage", 0, "image"), *TEXTS),
        ((0, "KSampler", "positive"), (1, "KSampler", "negative"), (2, "KSampler", "latent_image")),
    ),
}

# One node for each entry that names another kind than the entry before it, in a column on the left or on the right.
DRAW_SCENE = """([id, before, after, gap, title, layers, file]) => {
  const { LiteGraph, app } = window, graph = app.graph;
  const last_id = graph.last_node_id;
  graph.clear();
  graph.last_node_id = last_id;  // values and pictures are kept by node id: none is used twice
  const add = (kind, x, y) => {
    const node = LiteGraph.createNode(kind);
    graph.add(node);
    node.pos = [x, y];
    if (kind === layers) node.widgets[0].value = file;
    return node;
  };
  const column = (kinds, x) => {
    let y = 0, last = null;
    return kinds.map(kind => {
      if (last?.type === kind && kind !== 'CLIPTextEncode' && kind !== 'LoadImage') return last;
      last = add(kind, x, y);
      if (kind === 'CLIPTextEncode') last.setSize([280, 90]);
      if (kind === 'LoadImage') last.setSize([220, 280]);
      y += last.size[1] + title + 20;
      return last;
    });
  };
  const left = column(before.map(([kind]) => kind), 0);
  const x = before.length ? Math.max(...left.map(node => node.size[0])) + gap : 0;
  const node = add(id, x, 0);
  const right = column(after.map(([, kind]) => kind), x + node.size[0] + gap);
  before.forEach(([, output, input], i) => left[i].connect(output, node, node.findInputSlot(input)));
  after.forEach(([output, , input], i) => node.connect(output, right[i], right[i].findInputSlot(input)));
}"""

# Puts the graph into the view, below the tabs and beside the side bar, and says where it is on the page.
FIT = """([margin, title, top, left, most]) => {
  const { app } = window, ds = app.canvas.ds, nodes = app.graph.nodes, groups = app.graph.groups ?? [];
  const boxes = [...nodes.map(n => [n.pos[0], n.pos[1] - title, n.pos[0] + n.size[0], n.pos[1] + n.size[1]]),
                 ...groups.map(g => [g.pos[0], g.pos[1], g.pos[0] + g.size[0], g.pos[1] + g.size[1]])];
  const [x0, y0] = [0, 1].map(i => Math.min(...boxes.map(b => b[i])));
  const [x1, y1] = [2, 3].map(i => Math.max(...boxes.map(b => b[i])));
  const room = [window.innerWidth - left - 2 * margin, window.innerHeight - top - 2 * margin - 60];
  ds.scale = Math.min(most, room[0] / (x1 - x0), room[1] / (y1 - y0));
  const rect = app.canvas.canvas.getBoundingClientRect();
  ds.offset[0] = (left + margin - rect.x) / ds.scale - x0;
  ds.offset[1] = (top + margin - rect.y) / ds.scale - y0;
  app.canvas.setDirty(true, true);
  return { x: left, y: top, width: (x1 - x0) * ds.scale + 2 * margin, height: (y1 - y0) * ds.scale + 2 * margin };
}"""
TOP, LEFT = 120, 90  # of the page, where the front end's own bars end
HIDE = "document.querySelectorAll('[class*=minimap], [data-testid*=minimap]').forEach(e => e.style.display = 'none')"


def with_all_files(route: Route) -> None:
    """ComfyUI's answer to /object_info, as if the files that the graphs name were all there."""
    answer = route.fetch(timeout=0)
    info = answer.json()
    nodes = [{"class_type": "EmuVideoLoadMotionLoRA", "inputs": {"motion_lora": "v2_lora_ZoomIn.ckpt"}}]
    for file in (ROOT / "workflows" / "api").glob("*.json"):
        nodes += json.loads(file.read_text("utf-8")).values()
    for node in nodes:
        inputs = info.get(node["class_type"], {}).get("input", {}).get("required", {})
        for name, value in node["inputs"].items():
            kind, *options = inputs.get(name, [None])
            choices = kind if isinstance(kind, list) else options[0].get("options") if kind == "COMBO" else None
            if choices is not None and value not in choices:
                choices.append(value)
    route.fulfill(response=answer, json=info)


@contextmanager
def browser() -> Iterator[Page]:
    chromium = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    with tempfile.TemporaryDirectory() as profile, sync_playwright() as playwright:
        context = playwright.chromium.launch_persistent_context(
            profile,
            executable_path=chromium,
            args=FLAGS,
            viewport={"width": WIDTH, "height": HEIGHT},
            device_scale_factor=2,
        )
        page = context.pages[0]
        page.set_default_timeout(300_000)
        page.route("**/object_info", with_all_files)
        yield page
        context.close()


def picture(page: Page, target: Path, most: float, size: tuple[int, int], quality: int) -> None:
    clip = page.evaluate(FIT, [MARGIN, TITLE, TOP, LEFT, most])
    page.evaluate(HIDE)
    page.mouse.move(WIDTH - 5, HEIGHT // 2)
    page.wait_for_timeout(1500)
    image = Image.open(io.BytesIO(page.screenshot(clip=clip))).convert("RGB")
    image.thumbnail(size, Image.Resampling.LANCZOS)
    image.save(target, quality=quality, optimize=True)
    print(target, image.size, target.stat().st_size, flush=True)


def opened(page: Page, url: str) -> None:
    page.goto(url)
    page.wait_for_function("window.app?.graph?.nodes?.length > 1")
    page.wait_for_timeout(3000)


def node_pictures(page: Page, url: str) -> None:
    opened(page, f"{url}/?template=Text-to-Video-Pocket&source={comfyui.PACK}")
    for name, (before, after) in SCENES.items():
        page.evaluate(DRAW_SCENE, [name, before, after, GAP, TITLE, LAYERS, FILES.get(name, VIDEO_FILE)])
        picture(page, ROOT / "web" / "docs" / f"{name}.jpg", 1.0, NODE_SIZE, 75)


def graph_pictures(page: Page, url: str, names: list[str]) -> None:
    for name in names:
        opened(page, f"{url}/?template={name}&source={comfyui.PACK}")
        picture(page, ROOT / "workflows" / f"{name}.jpg", 1.0, GRAPH_SIZE, 80)


def main(names: list[str]) -> None:
    with tempfile.TemporaryDirectory() as room:
        base = comfyui.make_base(Path(room), Path(room) / "output")
        with server.running(comfyui.locate(), base) as running, browser() as page:
            if names:
                graph_pictures(page, running.url, names)
            else:
                node_pictures(page, running.url)


if __name__ == "__main__":
    main(sys.argv[1:])
