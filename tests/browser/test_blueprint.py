"""The blueprint Extend Video: offered by ComfyUI, and chained in one graph, each copy with a prompt of its own."""

from __future__ import annotations

import json

import pytest
from emu_video.launcher.comfyui import PACK
from emu_video.launcher.environment import ROOT

MINUTE = 60_000  # ms
NAME = "Extend Video (Emu Video)"
PROMPTS = ["a red circle moving down", "a red circle moving left"]

# Adds the blueprint as the node library does, once for each prompt, between the decoded video and Create Video.
CHAIN = """async ([name, prompts]) => {
  const { app } = window, find = type => app.graph.nodes.find(node => node.type === type);
  const entries = await (await fetch('/global_subgraphs')).json();
  const [id, entry] = Object.entries(entries).find(([, e]) => e.name === name);
  const blueprint = JSON.parse((await (await fetch('/global_subgraphs/' + id)).json()).data);
  const checkpoint = find('CheckpointLoaderSimple'), layers = find('EmuVideoLoadTemporalLayers');
  const end = find('CreateVideo'), into = end.findInputSlot('images');
  const link = app.graph.getLink(end.inputs[into].link);
  let video = [app.graph.getNodeById(link.origin_id), link.origin_slot];
  for (const [i, prompt] of prompts.entries()) {
    const { nodes, definitions } = structuredClone(blueprint), items = { nodes, subgraphs: definitions.subgraphs };
    const node = app.canvas._deserializeItems(items, { position: [500 * i, 1200] }).nodes.values().next().value;
    const sources = { model: [layers, 0], clip: [checkpoint, 1], vae: [checkpoint, 2], video };
    for (const [input, [source, output]] of Object.entries(sources))
      source.connect(output, node, node.findInputSlot(input));
    node.widgets.find(widget => widget.name === 'prompt' || widget.label === 'prompt').value = prompt;
    video = [node, 0];
  }
  video[0].connect(0, end, into);
  return [entry.info.node_pack, (await app.graphToPrompt()).output];
}"""


def by_type(prompt: dict, kind: str) -> list[tuple[str, dict]]:
    return [(key, node["inputs"]) for key, node in prompt.items() if node["class_type"] == kind]


@pytest.mark.timeout(1800)
def test_chained_extensions(template, tmp_path):
    page, problems = template
    pack, prompt = page.evaluate(CHAIN, [NAME, PROMPTS])
    page.screenshot(path=tmp_path / "chained.png")
    assert pack == f"custom_nodes.{PACK}"

    extensions, joins = by_type(prompt, "EmuVideoExtend"), by_type(prompt, "EmuVideoJoin")
    assert [prompt[inputs["positive"][0]]["inputs"]["text"] for _, inputs in extensions] == PROMPTS
    assert [inputs["known"] for _, inputs in extensions] == [2, 2]
    ((start, _),) = [item for item in by_type(prompt, "VAEDecode") if item[0] == extensions[0][1]["video"][0]]
    for (extend, inputs), (_, join), before in zip(extensions, joins, (start, joins[0][0]), strict=True):
        assert inputs["video"][0] == join["frames"][0] == before and join["layout"][0] == extend
    ((_, video),) = by_type(prompt, "CreateVideo")
    assert video["images"][0] == joins[1][0]

    page.evaluate(
        """() => { const all = graph => graph.nodes.flatMap(n => n.subgraph ? [n, ...all(n.subgraph)] : [n]);
                   for (const node of all(window.app.graph))
                     for (const widget of node.widgets ?? [])
                       if (widget.name === 'steps') widget.value = 2 }"""
    )
    page.get_by_test_id("queue-button").click()
    page.wait_for_function("document.querySelector('video')?.videoWidth > 0", timeout=10 * MINUTE)
    page.screenshot(path=tmp_path / "video.png")
    assert page.evaluate("document.querySelector('video').duration") == 20 / 8  # 8 + 6 + 6 frames, 8 a second
    assert not problems


def test_every_input_of_the_blueprint_leads_somewhere():
    blueprint = json.loads((ROOT / "subgraphs" / f"{NAME}.json").read_text("utf-8"))
    (subgraph,) = blueprint["definitions"]["subgraphs"]
    links = {link["id"]: link for link in subgraph["links"]}
    nodes = {node["id"]: node for node in subgraph["nodes"]}
    for place, entry in enumerate(subgraph["inputs"]):
        assert entry["linkIds"]
        for number in entry["linkIds"]:
            link = links[number]
            slot = nodes[link["target_id"]]["inputs"][link["target_slot"]]
            assert link["origin_slot"] == place and link["type"] == entry["type"] == slot["type"]
            assert slot["link"] == number
    (node,) = blueprint["nodes"]
    assert [slot["name"] for slot in node["inputs"]] == [entry["name"] for entry in subgraph["inputs"]]
