"""`run.py layers`: what it prints, and what it refuses before and after reading."""

from __future__ import annotations

import pytest
from emu_video.pocket.shipped import VIDEO_LAYERS
from emu_video.temporal_layers.files import load_layers
from emu_video.temporal_layers.formats.__main__ import main


def test_file_is_identified_and_saved(tmp_path, capsys):
    output = tmp_path / "copy.safetensors"
    assert main([str(VIDEO_LAYERS), str(output)]) == 0
    assert "for pocket" in capsys.readouterr().out
    assert load_layers(output)[1].anchors == load_layers(VIDEO_LAYERS)[1].anchors


@pytest.mark.parametrize(
    ("output", "reason"),
    [
        ("", "is a folder. Give a file name"),
        ("missing/x.safetensors", "does not exist. Create it"),
        ("x.ckpt", "does not end in .safetensors"),
    ],
)
def test_output_is_checked_before_reading(tmp_path, capsys, output, reason):
    assert main(["no such file", str(tmp_path / output)]) == 1
    assert reason in capsys.readouterr().err


@pytest.mark.parametrize("content", [b"", b"\x80", b"\x80\x02}q\x00", b"PK\x03\x04 damaged", b"no weights"])
@pytest.mark.parametrize("suffix", [".ckpt", ".safetensors"])
def test_damaged_file_is_a_sentence(tmp_path, capsys, content, suffix):
    file = tmp_path / f"damaged{suffix}"
    file.write_bytes(content)
    assert main([str(file)]) == 1
    word = capsys.readouterr().err
    assert str(file) in word and "\n" not in word.strip()
