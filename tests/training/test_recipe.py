from dataclasses import replace

import pytest
from emu_video.training.recipe import Recipe, Stage, load_recipe, names, parse


def written(tmp_path, text):
    path = tmp_path / "recipe.toml"
    path.write_text(text)
    return path


def test_an_empty_recipe_is_the_default_one(tmp_path):
    assert load_recipe(written(tmp_path, "")) == Recipe()


def test_keys_at_the_top_belong_to_every_stage(tmp_path):
    text = 'base = "sd15"\nbatch = 8\nlearning_rate = 1\n[[stage]]\nname = "a"\n[[stage]]\nname = "b"\nbatch = 2\n'
    recipe = load_recipe(written(tmp_path, text))
    assert recipe.base == "sd15" and [stage.batch for stage in recipe.stages] == [8, 2]
    assert all(stage.learning_rate == 1.0 for stage in recipe.stages)
    settings = recipe.stages[1].settings()
    assert (settings.batch, settings.at_once, settings.rate, settings.betas) == (2, 1, 1.0, (0.9, 0.999))


def test_changes_on_the_command_line(tmp_path):
    path = written(tmp_path, 'steps = 5\n[[stage]]\nname = "a"\nbatch = 2\n[[stage]]\nname = "b"\n')
    changes = ["steps=7", "batch = 4", "stage.2.learning_rate=2e-5", "known_frames=first and last", 'prompts=["x"]']
    recipe = load_recipe(path, changes)
    assert [(s.steps, s.batch, s.known_frames) for s in recipe.stages] == [(7, 4, "first and last")] * 2
    assert [s.learning_rate for s in recipe.stages] == [1e-4, 2e-5] and recipe.prompts == ("x",)
    for change, message in {"steps": "not of the form key=value", "stage.3.steps=1": "has 2 stages"}.items():
        with pytest.raises(ValueError, match=message):
            load_recipe(path, [change])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("\nstep = 5", r"recipe\.toml, line 2: step is not a key of a recipe; did you mean steps\?"),
        ("qqqq = 5", "qqqq is not a key of a recipe: leave it out"),
        ('a = 1\nsteps = "many"', r"a is not a key"),
        ('steps = "many"', "line 1: steps is 'many': write a whole number"),
        ("steps = true", "steps is True: write a whole number"),
        ("steps = 0", "steps is 0: use a number from 1 to inf"),
        ('learning_rate = "x"', "write a number"),
        ('compile = "yes"', "write true or false"),
        ("role = 3", "write a text in quotes"),
        ('role = "film"', "role is 'film': use one of video, interpolation, super_resolution"),
        ('prompts = "one"', "write a list of texts"),
        ("steps = ", "is not TOML"),
        ("stage = 3", r"write \[\[stage\]\]"),
        ("zero_terminal_snr = true", "zero_terminal_snr needs prediction v, not base"),
        ('prediction = "eps"\nzero_terminal_snr = true', "line 2: zero_terminal_snr needs prediction v, not eps"),
        ('shard = true\noptimiser = "muon"', "optimiser muon needs whole matrices"),
        ("drift_weight = 1", "drift_weight needs prediction v"),
        (
            'prediction = "v"\ndrift_weight = 1\ntimestep_weights = "learned"',
            "learned does not weight the term against drift",
        ),
        ("drop_text = 0.6\ndrop_all = 0.6", "add up to more than 1: lower one"),
        ("batch = 4\nclips_at_once = 3", "batch 4 is not a multiple of clips_at_once 3"),
        ('role = "interpolation"', "role interpolation needs known_frames"),
        ('role = "super_resolution"', "downscale 1 do not fit"),
        ("known_every = 4", "known_every works only with the role interpolation"),
        (
            'role = "interpolation"\nknown_frames = "every n-th"\nknown_every = 4\nframes = 8',
            "do not fit an interpolation",
        ),
        ('[[stage]]\nname = "a"\n[[stage]]\nname = "a"', "Two stages have the same name"),
        ('[[stage]]\nname = "a"\n[[stage]]\nname = "A"', "Two stages have the same name"),
        ('[[stage]]\nname = "a"\n[[stage]]\nname = "a_raw"', "Two stages have the same name"),
        ('[[stage]]\nname = "a"\n[[stage]]\nname = "b"\ndrift_weight = 2', r"stage 2 \(b\): drift_weight needs"),
        ("low_rank = 4", "set start to given"),
        (
            'start = "given"\nlow_rank = 4\n[[stage]]\nname = "a"\n[[stage]]\nname = "b"',
            "low_rank works with one stage, .*: remove the other stages, or set low_rank to 0",
        ),
        ('start = "given"\nprior_prompts = ["a"]\nshard = true', "prior_prompts does not work with shard"),
        ('name = "a/../b"', "files are named after it, so use letters"),
        ('name = ""', "files are named after it"),
        ("adam_beta2 = 1.0", "adam_beta2 is 1.0: use a number from 0 to"),
        ("seed = 1000000000000000000000000", "seed is 1000000000000000000000000: use a number from 0 to"),
        (f"learning_rate = {'9' * 400}", "learning_rate is inf: write a finite number|not TOML"),
    ],
)
def test_what_cannot_work_is_a_sentence(tmp_path, text, message):
    with pytest.raises(ValueError, match=message):
        load_recipe(written(tmp_path, text))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ([], r"recipe\.toml, line 7: stage 2 \(b\): frames is 'x'"),
        (["stage.2.frames = 4", "batch = x"], r"recipe\.toml: batch is 'x'"),
        (["stage.2.frames = 4", "learning_rate = 1e-3"], r"recipe\.toml, line 8: stage 2 \(b\): warmup is -1"),
    ],
)
def test_the_line_of_a_key_is_that_of_its_stage(tmp_path, changes, message):
    text = 'batch = 4\n[[stage]]\nname = "a"\nframes = 8\n[[stage]]\nname = "b"\nframes = "x"\nwarmup = -1\n'
    with pytest.raises(ValueError, match=message):
        load_recipe(written(tmp_path, text), changes)


def test_recipes_of_other_editors(tmp_path):
    path = written(tmp_path, "")
    path.write_bytes("\ufeffsteps = 7".encode())
    assert load_recipe(path).stages[0].steps == 7
    path.write_bytes("title = 'caf\xe9'".encode("latin-1"))
    with pytest.raises(ValueError, match="cannot be read .*: save it as UTF-8 text"):
        load_recipe(path)


@pytest.mark.parametrize("change", ["steps=10", "stage.1.steps=3"])
def test_a_table_in_place_of_a_list_of_stages(tmp_path, change):
    with pytest.raises(ValueError, match=r"write \[\[stage\]\]"):
        load_recipe(written(tmp_path, '[stage]\nname = "a"'), [change])


def test_a_recipe_that_is_not_there_names_the_shipped_ones():
    with pytest.raises(ValueError, match=f"There is no recipe absent.toml: name a TOML file, or one of {names()[0]}"):
        load_recipe("absent.toml")


@pytest.mark.parametrize("name", names())
def test_shipped_recipes_load(name):
    recipe = load_recipe(name)
    assert recipe.title and all(stage.steps >= 100 for stage in recipe.stages)


def test_the_papers_stages_have_its_numbers():
    """Table 3 of Emu Video."""
    stages = {stage.name: stage for stage in load_recipe("emu_video_paper").stages}
    assert list(stages) == ["256px", "512px", "16_frames", "high_quality", "interpolation"]
    low, high = stages["256px"], stages["512px"]
    assert (low.steps, low.prediction, low.zero_terminal_snr, low.frames) == (70_000, "eps", False, 8)
    assert (high.steps, high.prediction, high.zero_terminal_snr, high.frames) == (15_000, "v", True, 8)
    assert (stages["16_frames"].steps, stages["16_frames"].frames) == (25_000, 16)
    rates = {name: (stage.learning_rate, stage.warmup, stage.weight_decay) for name, stage in stages.items()}
    assert rates["256px"] == rates["512px"] == (1e-4, 1000, 0.0)
    assert rates["high_quality"] == (2.5e-5, 10_000, 1e-4) and rates["interpolation"] == (1.5e-4, 1500, 0.0)
    assert (stages["interpolation"].frames, stages["interpolation"].known_noise) == (37, 250)
    for stage in stages.values():
        settings = stage.settings()
        assert settings.betas == (0.9, 0.999) and settings.final_rate == 1.0


def test_parse_takes_plain_values():
    assert parse({"steps": 3}).stages == (Stage(steps=3),)


def test_the_recipe_with_a_prior_differs_in_the_prior_the_batch_and_the_rate():
    plain, prior = load_recipe("motion_pocket"), load_recipe("motion_pocket_prior")
    kept = {name: getattr(plain, name) for name in ("title", "prior_prompts", "prior_clips", "sample_steps")}
    (stage,), (of_prior,) = plain.stages, prior.stages
    assert of_prior.steps * of_prior.batch == stage.steps * stage.batch
    batch = {name: getattr(stage, name) for name in ("steps", "batch", "clips_at_once", "learning_rate")}
    assert prior.prior_prompts and replace(prior, **kept, stages=(replace(of_prior, **batch),)) == plain
