"""The measurement of the shipped graph: what it changes in the graph, and what the results say of the READMEs."""

import pytest
from emu_video.docs.tables import README_FILES, measured_tables
from emu_video.evaluation.results import digest, read_lines
from emu_video.evaluation.tables import stale_files
from emu_video.pocket.evaluate import extension, first_last, interpolation, text_to_video


def test_graph_is_the_shipped_one_that_leaves_its_pictures():
    (prompt,) = text_to_video.prompts(1, 1)
    graph = text_to_video.graph(prompt, seed=5)
    assert graph.inputs("Prompt")["value"] == prompt["text"]
    assert graph.nodes["frames"]["class_type"] == graph.nodes[graph.id("First frame")]["class_type"] == "PreviewImage"
    assert not graph.find("CreateVideo") and not graph.find("SaveVideo")
    assert {node["inputs"]["seed"] for node in graph.nodes.values() if "seed" in node["inputs"]} == {5}


def test_tables_in_the_readmes_are_those_of_the_results():
    stale = stale_files(README_FILES, measured_tables(), write=False)
    assert not stale, "run python -m emu_video.docs.tables"


@pytest.mark.parametrize(
    "module, count", [(text_to_video, 424), (extension, 12), (first_last, 24), (interpolation, 128)]
)
def test_results_are_those_of_the_shipped_weights(module, count):
    head, *rows = read_lines(module.RESULT)
    assert len(rows) == count
    measured = {name: sha for name, sha in head["made_by"]["sha256"].items() if name.endswith(".safetensors")}
    assert measured == {file.name: digest(file) for file in module.FILES if file.suffix == ".safetensors"}
