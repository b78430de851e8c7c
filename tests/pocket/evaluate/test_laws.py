"""The laws: one graph for each arm that differs only in its setting, and tables and plots of their figures."""

import numpy as np
import pytest
from emu_video.pocket.evaluate import laws, text_to_video
from emu_video.pocket.evaluate.law_tables import octaves, tables, write_plots
from emu_video.pocket.world import Scenes, render_clips, sample_clips


def graphs(law: str, count: int = 2):
    return laws.jobs_of([law], 5, count)


def sampler(graph) -> dict:
    return graph.inputs("EmuVideoSampler")


def test_arms_of_guidance_and_steps_differ_in_their_widgets_alone():
    for law, widgets in (("guidance", ("text_guidance", "image_guidance")), ("steps", ("steps",))):
        jobs = graphs(law)
        arms = laws.LAWS[law].arms
        assert len(jobs) == 2 * len(arms)
        for prompt, point, graph in jobs.values():
            assert [sampler(graph)[name] for name in widgets] == [point[key] for key in point if key != "number"]
            assert sampler(graph)["seed"] == point["number"]
            assert graph.inputs("Prompt")["value"] == prompt["text"]
            sampler(graph).update(dict.fromkeys((*widgets, "steps"), 0))
        contents = [graph.nodes for _, _, graph in jobs.values()]
        assert all(each == contents[0] for each in contents[: len(arms)]) and contents[-1] != contents[0]


def test_schedules_are_the_models():
    shipped, stock, leading = (graph for *_, graph in list(graphs("schedule").values())[:3])
    assert not shipped.find("EmuVideoZeroSNR")
    for graph in (stock, leading):
        (node,) = graph.find("EmuVideoZeroSNR")
        assert graph.nodes[node]["inputs"]["zero_terminal_snr"] is False
    assert sampler(stock)["model"] == stock.find("EmuVideoZeroSNR") + [0]
    parts = leading.inputs("Leading steps")
    assert leading.inputs("Leading")["scheduler"] == "ddim_uniform" and parts["guider"] == ["Guider", 0]
    assert leading.inputs("DDIM")["eta"] == sampler(stock)["eta"] == 1
    assert leading.inputs("Noise")["noise_seed"] == sampler(stock)["seed"]
    assert leading.inputs("Leading")["model"] == leading.inputs("Guider")["model"] == ["Stock schedule", 0]


def test_an_interrupted_run_has_all_arms_of_its_prompts():
    keys = list(laws.jobs_of(list(laws.LAWS), 5, 3))
    each = sum(len(law.arms) for law in laws.LAWS.values())
    assert len(keys) == 3 * each and [key.split(",")[0].split()[1] for key in keys[:each]] == ["0"] * each


def rows_of(law: str) -> list[dict]:
    rng, made = np.random.default_rng(0), []
    for number in range(4):
        for arm in laws.LAWS[law].arms:
            row = {
                "law": law,
                **arm.point,
                "number": number,
                "score": 10.0 * (number + 1),
                "motion": True,
                "psnr": 30.0,
                "drift": 1.0,
                "roundness": 0.05,
            }
            if law == "schedule":
                levels = list(np.linspace(200, 90, 8) + rng.normal(size=8))
                asked = text_to_video.LIGHTS[number % 2]
                row |= {"asked": asked, "light": True, "spread": 1.0, "levels": levels, "start": 200.0}
            made.append(row)
    return made


def test_tables_and_plots(tmp_path):
    rows = [row for law in laws.LAWS for row in rows_of(law)]
    found = tables(rows)
    assert list(found) == ["laws guidance", "laws steps", "laws schedule"]
    assert "| 2 | 3 | 4 | 25.00 ± 20.54 | 1.00 ± 0.00 | 100.0% (51.0% to 100.0%) |" in found["laws guidance"]
    assert "| 250 | 4 | 5.00 ± 0.00 |" in found["laws steps"]
    assert [path.name for path in write_plots(rows, tmp_path)] == [f"laws_{law}.png" for law in laws.LAWS]
    assert list(tables(rows_of("steps"))) == ["laws steps"]


def test_brightness_of_true_clips():
    clips = sample_clips(6, 12, scenes=Scenes(pairs=0.0, dimming=1.0))
    for clip, frames in zip(clips, render_clips(clips)[0].movedim(2, -1).numpy(), strict=True):
        if clip.background == "black":
            continue
        light = next(light for light in text_to_video.LIGHTS if clip.caption.endswith(light))
        figures = laws.figures({"light": light}, frames[0], frames)
        assert figures["light"] and figures["asked"] == light and figures["start"] == figures["levels"][0]
        expected = abs(np.log2(clip.light[-1] / clip.light[0]))
        assert octaves(figures["levels"]) == pytest.approx(expected, abs=0.15)
