"""The measurement of first-and-last-frame videos: the graph that it makes of the shipped one."""

from emu_video.pocket.evaluate import first_last as measured


def test_graph_is_the_shipped_one_given_two_frames():
    graph = measured.graph("a red circle still", seed=9).nodes
    kinds = {node["class_type"]: node["inputs"] for node in graph.values()}
    assert not kinds.keys() & {"EmuVideoFirstFrame", "ImageScale", "CreateVideo", "SaveVideo"}
    given = [graph[kinds["EmuVideoFirstLast"][name][0]]["inputs"]["image"] for name in ("first", "last")]
    assert given == ["measured_given_0.png", "measured_given_1.png"]
    assert kinds["EmuVideoSampler"]["seed"] == 9 and kinds["EmuVideoFirstLast"]["frames"] == 8
    links = [value[0] for node in graph.values() for value in node["inputs"].values() if isinstance(value, list)]
    assert set(links) <= set(graph)
    assert graph[graph["frames"]["inputs"]["images"][0]]["class_type"] == "VAEDecode"
