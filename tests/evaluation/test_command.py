"""The command's own arguments, and what it says when something is wrong."""

import sys

import pytest
from emu_video.evaluation import __main__ as command
from emu_video.evaluation.measure import running_servers
from emu_video.launcher.environment import ROOT
from emu_video.launcher.server import free_port

GRAPH = str(ROOT / "workflows" / "api" / "text_to_video_pocket.json")


@pytest.fixture
def run(monkeypatch, capsys, tmp_path):
    def run(*words: str) -> tuple[int, str]:
        monkeypatch.setattr(sys, "argv", ["run.py evaluate", "--output", str(tmp_path / "out"), *words])
        code = command.main()
        return code, capsys.readouterr().err

    return run


def test_mistakes_are_one_sentence(run, tmp_path):
    assert run("--arm", "a", GRAPH) == (
        1,
        "\nrun.py evaluate: A comparison needs at least two arms. Give --arm twice.\n",
    )
    code, said = run("--arm", "a", GRAPH, "--arm", "b", GRAPH, "--clip", str(tmp_path))
    assert code == 1 and "is not a model folder" in said
    prompts = tmp_path / "prompts.txt"
    prompts.write_text("a red circle\n")
    nobody = f"127.0.0.1:{free_port()}"
    code, said = run("--arm", "a", GRAPH, "--arm", "b", GRAPH, "--prompts", str(prompts), "--servers", nobody)
    assert code == 1 and f"No ComfyUI answers at http://{nobody}" in said and said.count("\n") == 2


def test_absent_encoders_are_said():
    encoders, notes = command.load_encoders(None, None, None)
    assert encoders.image is None and len(notes) == 3 and all("--" in note for note in notes)


def test_addresses_get_their_scheme():
    with running_servers(["127.0.0.1:8188", "https://host"]) as addresses:
        assert addresses == ["http://127.0.0.1:8188", "https://host"]
