"""Lists of prompts with line breaks in unusual places."""

import json

from emu_video.evaluation.prompts import Prompt, read_prompts


def test_a_line_break_inside_quotes_is_part_of_the_prompt(tmp_path):
    path = tmp_path / "prompts.csv"
    path.write_text('id,prompt\none,"a cat\nruns"\ntwo,a dog\n', "utf-8")
    assert read_prompts(path) == [Prompt("one", "a cat runs"), Prompt("two", "a dog")]


def test_a_line_separator_inside_json_is_no_new_line(tmp_path):
    path = tmp_path / "prompts.jsonl"
    path.write_text(json.dumps({"prompt": "a cat\u2028runs"}, ensure_ascii=False) + "\n", "utf-8")
    assert read_prompts(path) == [Prompt("001", "a cat runs")]
