"""Unknown words of the pocket, on the node that encodes them."""

import importlib
from types import SimpleNamespace

import pytest
from comfy_execution.utils import CurrentNodeContext
from emu_video.host import node_text
from emu_video.pocket.shipped import CHECKPOINT


@pytest.fixture
def shown(monkeypatch):
    """What the front end is sent: (text, node id)."""
    sent = []
    server = importlib.import_module("server")
    instance = SimpleNamespace(send_progress_text=lambda text, node_id: sent.append((text, node_id)))
    monkeypatch.setattr(server.PromptServer, "instance", instance, raising=False)
    return sent


def test_unknown_words_are_shown_on_the_node_until_they_are_corrected(pack, shown):
    nodes = importlib.import_module("nodes")
    clip = nodes.CheckpointLoaderSimple().load_checkpoint(CHECKPOINT.name)[1]

    def encode(text: str) -> None:
        with CurrentNodeContext("prompt", "7"):
            nodes.CLIPTextEncode().encode(clip, text)

    encode("a red circle")
    assert shown == []
    encode("a red sqaure and a unicorn")
    complaint = 'The pocket model does not know "sqaure" (did you mean square?), "unicorn".'
    assert shown == [(complaint, "7")]
    encode("a red square")
    encode("a red square")
    assert shown == [(complaint, "7"), (node_text.NO_COMPLAINT, "7")]
    clip.tokenize("a dragon")  # outside an execution there is no node
    assert len(shown) == 2
