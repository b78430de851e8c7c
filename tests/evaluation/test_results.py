"""Results that go on where they were, and only as long as nothing that made them has changed."""

import pytest
from emu_video.evaluation.results import Results, digest, read_rows


@pytest.fixture
def weights(tmp_path):
    file = tmp_path / "weights.safetensors"
    file.write_bytes(b"1")
    return file


def test_rows_are_there_again(tmp_path, weights):
    path = tmp_path / "deep" / "rows.jsonl"
    first = Results(path, [weights], seed=1)
    first.add("a", {"value": 1.5})
    first.add("b", {"value": None})
    again = Results(path, [weights], seed=1)
    assert again.rows == {"a": {"value": 1.5}, "b": {"value": None}} == read_rows(path) and "a" in again
    again.add("c", {})
    assert list(Results(path, [weights], seed=1).rows) == ["a", "b", "c"]


def test_changed_weights_or_settings_begin_anew_and_lose_nothing_before_the_first_row(tmp_path, weights):
    path = tmp_path / "rows.jsonl"
    Results(path, [weights], seed=1).add("a", {})
    assert not Results(path, [weights], seed=2).rows
    weights.write_bytes(b"2")
    other = Results(path, [weights], seed=1)
    assert not other.rows and list(read_rows(path)) == ["a"]
    other.add("b", {})
    assert list(read_rows(path)) == ["b"]


def test_last_line_that_was_cut_off_is_measured_again(tmp_path):
    path = tmp_path / "rows.jsonl"
    results = Results(path)
    results.add("a", {"value": 1})
    results.add("b", {"value": 2})
    path.write_bytes(path.read_bytes()[:-5])
    again = Results(path)
    assert list(again.rows) == ["a"]
    again.add("b", {"value": 2})
    assert read_rows(path) == {"a": {"value": 1}, "b": {"value": 2}}


def test_damaged_file_is_named(tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_text("not json\n{}\n")
    with pytest.raises(ValueError, match="rows.jsonl is damaged"):
        Results(path)


def test_values_that_json_does_not_have_are_refused(tmp_path):
    with pytest.raises(ValueError):
        Results(tmp_path / "rows.jsonl").add("a", {"value": float("nan")})


def test_digest_of_source_is_of_what_it_does(tmp_path):
    file = tmp_path / "scorer.py"
    file.write_text('"""Text."""\nimport os\n\ndef f(x):\n    """Text."""\n    return x + 1  # why\n')
    first = digest(file)
    file.write_text('"""Other."""\nfrom . import os\n\n\ndef f(x):\n    return x + 1\n')
    assert digest(file) == first
    file.write_text("def f(x):\n    return x + 2\n")
    assert digest(file) != first


def test_unicode_line_separators_are_part_of_a_row(tmp_path):
    path = tmp_path / "rows.jsonl"
    Results(path).add("a", {"prompt": "a cat\u2028runs\u0085"})
    assert read_rows(path) == {"a": {"prompt": "a cat\u2028runs\u0085"}}
