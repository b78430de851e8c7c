"""Schedules: both written forms, blends with their numbers written out, and a sentence for each mistake."""

import pytest
from emu_video.diffusion.keyframes import Blend, blends, read_prompts, read_values, scheduled_values


@pytest.mark.parametrize(
    "text",
    [
        "0: a cat\n8: a dog, (red:1.2)",
        "8: a dog,\n (red:1.2)\n\n 0 :a cat  ",
        '"0": "a cat",\n"8": "a dog, (red:1.2)",\n',
        '{"8" :"a dog, (red:1.2)", "0": "a cat"}',
    ],
)
def test_both_forms_of_prompts(text):
    assert read_prompts(text, 16) == {0: "a cat", 8: "a dog, (red:1.2)"}
    assert list(read_prompts(text, 16)) == [0, 8]


def test_negative_numbers_count_from_the_end():
    assert read_prompts("0: a\n-1: b", 16) == {0: "a", 15: "b"}
    assert read_values("-16: 1", 16) == {0: 1.0}


def test_quotes_colons_and_line_breaks_stay_in_a_prompt():
    assert read_prompts('0: she said: "hello"\n', 8) == {0: 'she said: "hello"'}
    assert read_prompts('"0": "two\nlines, a \\"quote\\""', 8) == {0: 'two\nlines, a "quote"'}
    assert read_prompts("0:", 8) == {0: ""}


@pytest.mark.parametrize(
    "text",
    [
        "0: 1\n8: .5\n12: -2e-1",
        "0:(1), 8:(.5), 12:(-0.2)",
        '"0": 1.0,\n"8": 0.5,\n"12": -.20,',
        " 0 : 1. ,8:+0.5,12:-0.2",
    ],
)
def test_values(text):
    assert read_values(text, 16) == {0: 1.0, 8: 0.5, 12: -0.2}


@pytest.mark.parametrize(
    ("read", "text", "message"),
    [
        (read_prompts, "", "The schedule has no prompts. Write one per line"),
        (read_prompts, "{}", "The schedule has no prompts"),
        (read_prompts, "a cat", '"a cat" has no frame number: begin the line with one'),
        (read_prompts, "0: a\n0: b", "names frame 0 twice"),
        (read_prompts, "15: a\n-1: b", "names frame 15 twice"),
        (read_prompts, "-17: a", "16 frames has no frame -17: use -16 or a higher number"),
        (read_prompts, '"0": "a" "8": "b"', 'cannot be read at ".*"8": "b"'),
        (read_prompts, '"max_f": "a"', 'The entry "max_f" has no frame number or no text'),
        (read_prompts, '"0": 5', 'The entry "0" has no frame number or no text'),
        (read_prompts, "0: (cat:`t/10`)", "frame 0 has expressions between backticks"),
        (read_prompts, "4: cat --neg dog", "frame 4 has negative prompts behind --neg"),
        (read_values, "", "The schedule has no values"),
        (read_values, "0: one", '"0: one" is not a frame number and a value'),
        (read_values, "0.5", '"0.5" is not a frame number and a value'),
        (read_values, "0: nan", "not a frame number and a value"),
        (read_values, "0: 1e999", "not a frame number and a value"),
        (read_values, f"{'9' * 5000}: 1", "not a frame number and a value"),
        (read_values, "0: 1, 0: 2", "names frame 0 twice"),
    ],
)
def test_refused_schedules(read, text, message):
    with pytest.raises(ValueError, match=message):
        read(text, 16)


@pytest.mark.parametrize("second", ["8: a dog", "8：a dog", '"8": "a dog",', '8: "a dog",', ' "8" : a dog'])
def test_forms_of_a_line(second):
    assert read_prompts(f"0: a cat\n{second}", 16) == {0: "a cat", 8: "a dog"}


@pytest.mark.parametrize("line", ["8.5: a dog", "50%: a dog", "- 8: a dog", "+8: a dog", "frame 8: a dog",
                                  "1234567890: a dog", "\u200b8: a dog"])  # fmt: skip
def test_lines_that_look_like_a_frame_number_are_refused(line):
    with pytest.raises(ValueError, match="looks like a frame number, but is not one: begin it with a whole number"):
        read_prompts(f"0: a cat\n{line}", 16)


def test_lines_that_continue_a_prompt():
    text = "0: a cat\n(masterpiece:1.2), 1girl: running\nat 8 in the morning"
    assert read_prompts(text, 16) == {0: "a cat (masterpiece:1.2), 1girl: running at 8 in the morning"}


def test_nested_brackets_are_refused():
    with pytest.raises(ValueError, match="brackets inside of brackets: write plain lines"):
        read_prompts('{"0": ' + "[" * 100_000, 16)


def test_frames_between_keys_blend_linearly():
    assert scheduled_values("0: 0\n4: 8", 6) == [0, 2, 4, 6, 8, 8]
    assert scheduled_values("2: 1\n3: 5", 6) == [1, 1, 1, 5, 5, 5]
    assert scheduled_values("0: 0\n10: 10", 4) == [0, 1, 2, 3]  # a key beyond the video is on its way
    assert scheduled_values("1: 3", 3) == [3, 3, 3]


def test_a_frame_at_a_key_is_that_key_alone():
    for frame, blend in enumerate(blends([0, 3, 5], 8)):
        assert 0 <= blend.weight < 1
        if frame in (0, 3) or frame >= 5:
            assert blend.weight == 0
    assert blends([0, 4], 5)[1] == Blend(0, 1, 0.25)


def test_a_loop_leads_back_to_its_first_key():
    assert scheduled_values("0: 0\n4: 4", 8, is_loop=True) == [0, 1, 2, 3, 4, 3, 2, 1]
    assert scheduled_values("2: 0\n4: 4", 8, is_loop=True) == pytest.approx([4 / 3, 2 / 3, 0, 2, 4, 10 / 3, 8 / 3, 2])
    assert scheduled_values("2: 7", 4, is_loop=True) == [7, 7, 7, 7]
    with pytest.raises(ValueError, match="loop of 4 frames has no frame 4: use frame numbers up to 3"):
        scheduled_values("0: 1\n4: 2", 4, is_loop=True)
