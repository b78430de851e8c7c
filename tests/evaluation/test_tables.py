"""Tables between markers."""

import pytest
from emu_video.evaluation.tables import markdown, replace_tables, stale_files

TEXT = "Before\n<!-- table: a -->\n\nold\n\n<!-- /table -->\nbetween\n<!-- table: b -->\n<!-- /table -->\nafter\n"


def test_tables_are_put_between_their_markers():
    fresh = replace_tables(TEXT, {"a": "A \\1", "b": "B"})
    assert "A \\1" in fresh and "old" not in fresh and fresh.startswith("Before\n") and fresh.endswith("\nafter\n")
    assert replace_tables(fresh, {"a": "A \\1", "b": "B"}) == fresh
    assert replace_tables(fresh, {"a": "A", "b": "B"}) != fresh


def test_unknown_table_is_named():
    with pytest.raises(ValueError, match="no table 'b'.*Known tables: a"):
        replace_tables(TEXT, {"a": "A"})


def test_stale_files_are_found_and_mended(tmp_path):
    file = tmp_path / "README.md"
    file.write_text(TEXT)
    tables = {"a": markdown(("x", "y"), [("1", "2")]), "b": "B"}
    assert stale_files([file], tables, write=False) == [file] and file.read_text() == TEXT
    assert stale_files([file], tables, write=True) == [file]
    assert stale_files([file], tables, write=False) == [] and "| x | y |\n|---|---|\n| 1 | 2 |" in file.read_text()
