from pathlib import Path

import PIL.Image
import pytest
from emu_video.training.prepare.sources import find


def touch(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"x")


def pictures(folder: Path, *names: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        PIL.Image.new("RGB", (8, 8)).save(folder / name)


def captions(found) -> dict[str, str]:
    return {source.name: source.caption for source in found}


def test_videos_of_all_folders_in_order(tmp_path):
    touch(tmp_path, "b.mp4", "a/z.MKV", "a/c.webm", ".hidden/d.mp4", "._b.mp4", "notes.pdf", "out/e.mp4")
    found, _ = find(tmp_path, without=tmp_path / "out")
    assert [source.name for source in found] == ["a/c.webm", "a/z.MKV", "b.mp4"]


def test_numbered_pictures_are_one_source_in_the_order_of_their_numbers(tmp_path):
    pictures(tmp_path / "walk", "f10.png", "f9.png", "f2.png", "cover.png")
    pictures(tmp_path / "single", "1.png")
    found, _ = find(tmp_path)
    assert [source.name for source in found] == ["walk"]
    assert [path.name for path in found[0].pictures] == ["f2.png", "f9.png", "f10.png"]


def test_sequences_in_one_folder_are_sources_of_their_own(tmp_path):
    pictures(tmp_path / "walk", "a_001.png", "b_001.png", "a_002.png", "b_002.png", "cover 7.png")
    (tmp_path / "walk" / "b.txt").write_text("a bear walks")
    found, _ = find(tmp_path)
    assert captions(found) == {"walk/a": "", "walk/b": "a bear walks"}
    assert [path.name for path in found[1].pictures] == ["b_001.png", "b_002.png"]


def test_datasets_and_runs_are_not_read(tmp_path):
    touch(tmp_path, "a.mp4", "ds8/scans.jsonl", "ds8/shard-00000.mp4", "run/m_raw.safetensors", "run/samples/m.mp4")
    found, notes = find(tmp_path)
    assert [source.name for source in found] == ["a.mp4"]
    assert [note.source for note in notes if "is a dataset or a training run" in note.reason] == ["ds8", "run"]


def test_linked_folders_and_files(tmp_path):
    videos, elsewhere = tmp_path / "videos", tmp_path / "elsewhere"
    touch(elsewhere, "a.mp4", "more/b.mp4")
    touch(videos, "sub/c.mp4")
    (videos / "sub" / "a.mp4").symlink_to(elsewhere / "a.mp4")
    (videos / "linked").symlink_to(elsewhere / "more")
    (elsewhere / "more" / "back").symlink_to(videos)
    (videos / "sub" / "t.jsonl").write_text(
        '{"file": "a.mp4", "caption": "A"}\n{"file": "../linked/b.mp4", "text": "B"}'
    )
    found, notes = find(videos)
    assert captions(found) == {"sub/a.mp4": "A", "linked/b.mp4": "B", "sub/c.mp4": ""}
    assert [note.source for note in notes] == ["sub/c.mp4"]


def test_absolute_paths_through_a_link_to_the_folder(tmp_path):
    touch(tmp_path / "videos", "a.mp4")
    (tmp_path / "link").symlink_to(tmp_path / "videos")
    (tmp_path / "videos" / "t.csv").write_text(f"file,caption\n{tmp_path}/link/a.mp4,A\n")
    assert captions(find(tmp_path / "link")[0]) == {"a.mp4": "A"}


def test_captions_of_text_files_tables_and_both(tmp_path):
    touch(tmp_path, "a.mp4", "b.mp4", "sub/c.mp4", "d.mp4", "e.mp4")
    (tmp_path / "a.txt").write_text("from a\ntext file\n")
    (tmp_path / "captions.jsonl").write_text(
        '{"file_name": "a.mp4", "caption": "loses"}\n{"video": "b.mp4", "text": "from jsonl"}\n\n'
    )
    (tmp_path / "sub" / "metadata.csv").write_text('path,prompt\nc.mp4,"from csv, with a comma"\n')
    (tmp_path / "d.mp4.txt").write_text("\ufeffdouble ending")
    found, notes = find(tmp_path)
    assert captions(found) == {
        "a.mp4": "from a text file", "b.mp4": "from jsonl", "sub/c.mp4": "from csv, with a comma",
        "d.mp4": "double ending", "e.mp4": "",
    }  # fmt: skip
    assert [(note.source, note.left_out) for note in notes] == [("e.mp4", False)]
    assert "so the empty text is used" in notes[0].reason


@pytest.mark.parametrize(
    ("name", "table"),
    [
        ("t.csv", 'file_name,caption\n0.mp4,"a red ball\nrolls left"\n1.mp4,one\n'),
        ("t.csv", 'file_name;caption\r\n0.mp4;a red ball rolls left\r\n1.mp4;one\r\n'),
        ("t.jsonl", '{"file_name": "0.mp4", "caption": "a red ball\u2028rolls left"}\n'
                    '{"file_name": "1.mp4", "caption": "one"}\n'),
    ],
)  # fmt: skip
def test_tables_of_other_programs(tmp_path, name, table):
    touch(tmp_path, "0.mp4", "1.mp4")
    (tmp_path / name).write_bytes(table.encode())
    found, notes = find(tmp_path)
    assert captions(found) == {"0.mp4": "a red ball rolls left", "1.mp4": "one"} and notes == []


def test_a_quote_that_is_not_closed_is_named(tmp_path):
    touch(tmp_path, "0.mp4", "1.mp4")
    (tmp_path / "t.csv").write_text('file_name,caption\n0.mp4,zero\n1.mp4,"a ball\n')
    found, notes = find(tmp_path)
    assert captions(found) == {"0.mp4": "zero", "1.mp4": ""}
    assert any("Line 3: its quotes are wrong" in note.reason for note in notes)


def test_a_comma_without_quotes_does_not_cut_a_caption(tmp_path):
    touch(tmp_path, "0.mp4", "1.mp4")
    (tmp_path / "t.csv").write_text('file_name,caption\n0.mp4,a man walks, slowly\n1.mp4,"a man, walking"\n')
    found, notes = find(tmp_path)
    assert captions(found) == {"0.mp4": "", "1.mp4": "a man, walking"}
    assert any("Line 2: it has more columns" in note.reason and "in quotes" in note.reason for note in notes)


def test_a_picture_that_claims_to_be_huge_does_not_stop_the_search(tmp_path, monkeypatch):
    touch(tmp_path, "a.mp4")
    pictures(tmp_path / "walk", "1.webp", "2.webp")
    monkeypatch.setattr(PIL.Image, "MAX_IMAGE_PIXELS", 4)
    assert "a.mp4" in [source.name for source in find(tmp_path)[0]]


def test_a_damaged_picture_does_not_stop_the_search(tmp_path, monkeypatch):
    touch(tmp_path, "a.mp4", "walk/1.webp", "walk/2.webp")

    def damaged(path):
        raise ValueError("what Pillow raises for some files")

    monkeypatch.setattr(PIL.Image, "open", damaged)
    assert "a.mp4" in [source.name for source in find(tmp_path)[0]]


def test_file_names_as_captions_where_asked(tmp_path):
    touch(tmp_path, "a_red-ball.rolling.mp4")
    pictures(tmp_path / "walk v1.5", "1.png", "2.png")
    found, notes = find(tmp_path, names_as_captions=True)
    assert captions(found) == {"a_red-ball.rolling.mp4": "a red ball rolling", "walk v1.5": "walk v1 5"}
    assert "so its file name is used" in notes[0].reason


def test_surplus_and_broken_captions_are_named(tmp_path):
    touch(tmp_path, "a.mp4")
    (tmp_path / "gone.txt").write_text("no video")
    (tmp_path / "a.txt").write_bytes(b"\xff\xfe\x00broken")
    (tmp_path / "captions.jsonl").write_text(
        '{"file_name": "a.mp4", "caption": "a"}\n{"file_name": "gone.mp4", "caption": "g"}\n'
        'not json\n{"caption": "?"}\n'
    )
    found, notes = find(tmp_path)
    assert captions(found) == {"a.mp4": "a"}
    reasons = {note.source: [] for note in notes}
    for note in notes:
        reasons[note.source].append(note.reason)
    assert "no video with this name" in reasons["gone.txt"][0]
    assert "save it as UTF-8" in reasons["a.txt"][0]
    surplus, broken, nameless = reasons["captions.jsonl"]
    assert (
        'Line 2: there is no video "gone.mp4"' in surplus
        and "Line 3" in broken
        and "Line 4: it lacks a file" in nameless
    )


def test_a_folder_without_videos_is_refused(tmp_path):
    touch(tmp_path, "a.txt")
    with pytest.raises(ValueError, match="contains no video"):
        find(tmp_path)
    with pytest.raises(ValueError, match="is not a folder"):
        find(tmp_path / "nowhere")


def test_stamp_changes_with_the_file(tmp_path):
    touch(tmp_path, "a.mp4")
    (before,), _ = find(tmp_path)
    stamp = before.stamp()
    assert stamp == before.stamp()
    (tmp_path / "a.mp4").write_bytes(b"longer")
    assert before.stamp() != stamp


def test_half_an_emoji_and_names_that_are_not_utf8_do_not_reach_the_dataset(tmp_path):
    name = "na\udcefve.mp4"
    try:
        touch(tmp_path, "a.mp4", name)
    except OSError:
        pytest.skip("this file system refuses such names")
    (tmp_path / "captions.jsonl").write_text('{"file_name": "a.mp4", "caption": "a cat \\ud83d"}\n', "utf-8")
    found, notes = find(tmp_path)
    assert captions(found) == {"a.mp4": "a cat ?"}
    assert [(note.source, note.reason) for note in notes if note.left_out] == [
        ("na?ve.mp4", "Its name is not UTF-8: rename it.")
    ]
    (tmp_path / "a.mp4").unlink()
    with pytest.raises(ValueError, match="names of all videos .* are not UTF-8"):
        find(tmp_path)
