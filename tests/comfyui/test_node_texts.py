"""What a user reads of a node: names, tooltips, and the words that find it."""

import re

import pytest

# What people type into the search box, and the nodes that must be among the results.
SEARCHES = {
    "animatediff": {"EmuVideoLoadTemporalLayers"},
    "apply animatediff": {"EmuVideoLoadTemporalLayers"},
    "fancyvideo": {"EmuVideoLoadTemporalLayers", "EmuVideoFirstFrame", "EmuVideoFrameRateAndMotion"},
    "hotshot": {"EmuVideoLoadTemporalLayers"},
    "img2vid": {"EmuVideoFirstFrame", "EmuVideoAffinity"},
    "modelscope": {"EmuVideoLoadTemporalLayers"},
    "morph": {"EmuVideoFirstLast", "EmuVideoKnownFrames", "EmuVideoPromptSchedule"},
    "pia": {"EmuVideoLoadTemporalLayers", "EmuVideoAffinity"},
    "prompt travel": {"EmuVideoPromptSchedule"},
    "rescale": {"EmuVideoZeroSNR"},
    "second pass": {"EmuVideoResizeKnownFrames"},
    "sgm_uniform": {"EmuVideoTrailingSteps"},
    "t2v": {"EmuVideoLoadTemporalLayers"},
    "upscale video": {"EmuVideoSuperResolution", "EmuVideoResizeKnownFrames", "EmuVideoMatchSmallVideo"},
    "v-prediction": {"EmuVideoZeroSNR"},
    "zsnr": {"EmuVideoZeroSNR", "EmuVideoDDIM"},
}
SENTENCE_END = re.compile(r"[.!?](?=\s|$)")


def schemas(pack):
    return [node.GET_SCHEMA() for node in pack.values()]


def letters(text):
    return re.sub(r"[^a-z0-9]", "", text.lower())


@pytest.mark.parametrize("word", SEARCHES)
def test_search_words_find_the_nodes(pack, word):
    found = {
        schema.node_id
        for schema in schemas(pack)
        if any(word in text.lower() for text in (schema.display_name, *schema.search_aliases))
    }
    assert SEARCHES[word] <= found


def test_a_class_is_named_as_its_node(pack):
    assert [node for node in pack.values() if letters(node.__name__) != letters(node.GET_SCHEMA().display_name)] == []


def test_everything_has_a_text(pack):
    bare = [s.node_id for s in schemas(pack) if not s.description or not s.search_aliases]
    bare += [f"{s.node_id}.{entry.id}" for s in schemas(pack) for entry in (*s.inputs, *s.outputs) if not entry.tooltip]
    assert bare == []


def test_texts_are_at_most_two_sentences(pack):
    texts = [
        (s.node_id, text)
        for s in schemas(pack)
        for text in (s.description, *(e.tooltip for e in (*s.inputs, *s.outputs)))
    ]
    assert [each for each in texts if len(SENTENCE_END.findall(each[1])) > 2] == []


def test_settings_that_few_people_need_are_advanced(pack):
    rare = {"guidance_rescale", "eta", "margin", "seam", "window", "tile", "initial_noise", "family", "group_norm"}
    shown = [f"{s.node_id}.{e.id}" for s in schemas(pack) for e in s.inputs if e.id in rare and not e.advanced]
    assert shown == []
