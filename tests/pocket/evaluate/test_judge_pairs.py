"""Pairs for judging: two different settings each, in balance."""

import json
from collections import Counter

import numpy as np
from emu_video.evaluation.juice.questions import QUESTIONS
from emu_video.evaluation.juice.statistics import agreement_of, people_and_reader
from emu_video.evaluation.juice.store import Answer, Vote
from emu_video.launcher.environment import ROOT
from emu_video.pocket.evaluate.caption import read_caption
from emu_video.pocket.evaluate.judge_pairs import SETTINGS, Maker, Setting, pairs


def test_pairs_are_balanced_and_repeatable():
    chosen = pairs(7, 40)
    assert chosen == pairs(7, 40) and len({pair["name"] for pair in chosen}) == 40
    assert all(pair["a"] != pair["b"] for pair in chosen)
    assert len({pair["text"] for pair in chosen}) == 20
    assert all(read_caption(pair["text"]).background for pair in chosen)
    for arm in ("a", "b"):
        count = Counter(pair[arm] for pair in chosen)
        assert set(count) == set(SETTINGS) and set(count.values()) <= {4, 5, 6}


def test_settings_make_different_videos(tmp_path):
    maker = Maker(tmp_path)
    quick = {"usual": Setting(picture_steps=1, steps=1), "no text": Setting(picture_steps=1, steps=1, text=0.0)}
    videos = {name: maker.video("a red circle moving left", setting, seed=0) for name, setting in quick.items()}
    assert all(video.shape == (8, 128, 128, 3) for video in videos.values())
    assert not np.array_equal(videos["usual"], videos["no text"])
    assert np.array_equal(videos["usual"], maker.video("a red circle moving left", quick["usual"], seed=0))
    assert len(set(SETTINGS.values())) == len(SETTINGS)


def test_agreement_in_the_docs_is_that_of_the_votes():
    rows = [json.loads(line) for line in (ROOT / "pocket/evaluate/measured/judge_pairs.jsonl").read_text().splitlines()]
    captions = {row["name"]: row["caption"] for row in rows}
    assert captions == {pair["name"]: pair["text"] for pair in pairs(7, 40)}
    votes = [
        Vote(
            row["rater"], "pair", row["name"], "a",
            {question: Answer(arm, tuple(reasons)) for question, (arm, reasons) in row["answers"].items()}, 0.0, 0.0,
        )
        for row in rows
    ]  # fmt: skip
    people, own = people_and_reader(votes)
    docs = (ROOT / "docs" / "evaluation.md").read_text("utf-8")
    for question, found in agreement_of(own, people, captions).items():
        share = f"{found.share:.0%}".replace("%", " %")
        cells = f"{share} ({found.low:.0%}".rstrip("%") + f" to {found.high:.0%}".replace("%", " %)")
        assert f"| {QUESTIONS[question].text} | 40 | {found.ties} | {cells} | {found.kappa:.2f} |" in docs
