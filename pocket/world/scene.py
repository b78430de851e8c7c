"""The procedural world: scenes and the captions that describe them, repeatable from a seed.

Lengths are in units of the frame, x to the right and y down, angles in radians clockwise.
"""

from dataclasses import dataclass, replace

import numpy as np

from ...diffusion.known_frames import interleave
from .motions import FRAMES, MARGIN, Start, start_radius, trajectory
from .vocabulary import BACKGROUNDS, COLOURS, DIRECTIONS, MOTIONS, PLACES, SHAPES, held_out, spins_visibly

FPS = 8
TIMES = np.arange(float(FRAMES))
FINE_TIMES = np.arange(-4, 4 * FRAMES + 1) / 4  # 37 frames: four times the rate, and one frame more at both ends
GIVEN, _ = interleave(FRAMES, factor=4, margins=(4, 4))  # of the 37: the frames at whole times
CROSSING = ("crossing",)


@dataclass(frozen=True)
class Scenes:
    """Distribution of scenes, as shares.

    motions: drawn evenly; a motion listed twice is drawn twice as often. CROSSING shows two shapes that cross.
    is_moving: captions name the motion; False: they describe a single picture of still shapes.
    pairs: two shapes instead of one. free_pairs: share of pairs in everyday words: the caption may omit positions and a
    still shape, and shapes may bounce or have the same colour.
    dimming: the whole frame gets darker or brighter. It needs is_moving.
    """

    motions: tuple[str, ...] = MOTIONS
    is_moving: bool = True
    pairs: float = 0.15
    free_pairs: float = 0.0
    dimming: float = 0.12


ALL = Scenes()


def showing(*motions: str) -> Scenes:
    """Return scenes of one shape with one of `motions`, or of two shapes with the motion "crossing"."""
    return Scenes(motions, pairs=0.0)


@dataclass
class Body:
    """One shape over time. x, y, radius and angle are [frames], one value for each of the clip's times."""

    shape: str
    colour: str
    motion: str
    words: str
    rgb: np.ndarray
    x: np.ndarray
    y: np.ndarray
    radius: np.ndarray
    angle: np.ndarray


@dataclass
class Clip:
    """A caption and the scene that it describes."""

    caption: str
    background: str
    backdrop: np.ndarray  # [3], RGB 0..255
    shading: np.ndarray  # [2], change of brightness across x and y
    light: np.ndarray  # [frames], brightness of the whole frame
    bodies: list[Body]


def _between(rng: np.random.Generator, low: float, high: float) -> float:
    return float(rng.uniform(low, max(low, high)))


def _pick(rng: np.random.Generator, options) -> str:
    options = list(options)
    return options[int(rng.integers(len(options)))]


def _coordinate(rng, anchor: float, radius: float) -> float:
    """Return a coordinate at the low edge (0), in the middle (0.5) or at the high edge (1); the shape stays inside."""
    low, high = radius + MARGIN, 1 - radius - MARGIN
    if anchor == 0.5:
        return _between(rng, 0.46, 0.54)
    inward = _between(rng, 0.0, 0.25 * (high - low))
    return low + inward if anchor == 0.0 else high - inward


def _leaves_room(place: str, motion: str) -> bool:
    """Return whether a shape at `place` can make `motion` without leaving the frame."""
    if motion in DIRECTIONS:
        ahead = zip(PLACES[place], DIRECTIONS[motion], strict=True)
        return all(step == 0 or anchor != (1 + step) / 2 for anchor, step in ahead)
    return motion != "bouncing" or place.startswith(("at the bottom", "in the middle"))


def _body(rng, motion: str, place: str, taken: set[str], times: np.ndarray, is_moving: bool) -> Body:
    """Return one body whose colour and shape are not in `taken`. Its words name the motion only if `is_moving`."""
    while True:
        colour, shape = _pick(rng, COLOURS), _pick(rng, SHAPES)
        visible = motion != "spinning" or spins_visibly(shape)
        if visible and {colour, shape}.isdisjoint(taken) and not (is_moving and held_out(colour, shape, motion)):
            break
    centred = place == "in the middle" or (not place and is_moving and rng.random() < 0.3)
    size = _pick(rng, ("", "", "big", "small"))
    speed = _pick(rng, ("", "", "", "slowly", "fast")) if is_moving and motion != "still" else ""
    size, radius = start_radius(rng, motion, size, centred, wide=not is_moving and not place)
    anchors = PLACES[place] if place else (0.5, 0.5) if centred else (None, None)
    free = (radius + MARGIN, 1 - radius - MARGIN)
    x, y = (_between(rng, *free) if a is None else _coordinate(rng, a, radius) for a in anchors)
    start = Start(x, y, radius, fixed=centred or bool(place))
    paths = trajectory(rng, motion, speed, start, times)
    words = " ".join(w for w in ("a", size, colour, shape, place, motion if is_moving else "", speed) if w)
    rgb = np.clip(np.array(COLOURS[colour]) + rng.uniform(-6, 6, 3), 0, 255)
    return Body(shape, colour, motion, words, rgb, *paths)


def _pair(rng, times: np.ndarray, taken: set[str], scenes: Scenes) -> list[Body]:
    """Return two shapes side by side or above each other whose motions do not collide."""
    row = rng.random() < 0.5
    places = ("on the left", "on the right") if row else ("at the top", "at the bottom")
    motions = ("moving up", "moving down") if row else ("moving left", "moving right")
    motions += ("still", "spinning", "getting bigger", "getting smaller")
    if rng.random() < 0.5:
        places = places[::-1]
    is_free = scenes.free_pairs > 0 and rng.random() < scenes.free_pairs
    if is_free and row:
        motions += ("bouncing",)
    bodies: list[Body] = []
    for place in places:
        motion = _pick(rng, motions) if scenes.is_moving else "still"
        others = {b.shape for b in bodies} if is_free else _names(bodies)
        bodies.append(_small(_body(rng, motion, place, taken | others, times, scenes.is_moving), times))
    if is_free:
        hidden = [*(places if rng.random() < 0.5 else ()), *(("still",) if rng.random() < 0.5 else ())]
        for body in bodies:
            body.words = _without(body.words, hidden)
    return bodies


def _without(words: str, hidden: list[str]) -> str:
    for phrase in hidden:
        words = words.replace(f" {phrase}", "")
    return words


def _names(bodies: list[Body]) -> set[str]:
    return {word for body in bodies for word in (body.colour, body.shape)}


def _small(body: Body, times: np.ndarray) -> Body:
    """Shrink the body until a second one has room beside it."""
    largest = body.radius[(times >= 0) & (times <= FRAMES - 1)].max()
    body.radius = body.radius * (0.17 / max(0.17, largest))
    body.words = body.words.replace("big ", "")
    return body


def _crossing(rng, times: np.ndarray, taken: set[str]) -> list[Body]:
    """Return two shapes that start on opposite sides and pass through each other. `times` include frames 0 and 7."""
    row = rng.random() < 0.5
    ways = ("on the left", "moving right"), ("on the right", "moving left")
    if not row:
        ways = ("at the top", "moving down"), ("at the bottom", "moving up")
    while True:
        bodies: list[Body] = []
        for place, motion in ways:
            bodies.append(_small(_body(rng, motion, place, taken | _names(bodies), times, True), times))
        one, other = ((b.x if row else b.y) for b in bodies)
        before, after = np.interp((0, FRAMES - 1), times, other - one)
        if before > 0 > after:
            return bodies


def sample_clip(rng: np.random.Generator, times: np.ndarray = TIMES, scenes: Scenes = ALL) -> Clip:
    """Return one scene, seen at `times` (in frames of a clip).

    The same random numbers make the same scene for all `times`.
    """
    background = _pick(rng, BACKGROUNDS)
    if scenes.motions == CROSSING:
        bodies = _crossing(rng, times, {background})
    elif scenes.pairs and rng.random() < scenes.pairs:
        bodies = _pair(rng, times, {background}, scenes)
    else:
        motion = _pick(rng, scenes.motions) if scenes.is_moving else "still"
        places = [p for p in PLACES if _leaves_room(p, motion)]
        placed = rng.random() < (0.2 if scenes.is_moving else 0.75)
        bodies = [_body(rng, motion, _pick(rng, places) if placed else "", {background}, times, scenes.is_moving)]
    caption = " and ".join(b.words for b in bodies)
    if rng.random() < 0.7:
        caption += f" on a {background} background"
    light = np.ones(len(times))
    if scenes.is_moving and rng.random() < scenes.dimming:
        dim = _between(rng, 0.35, 0.5)
        darker = rng.random() < 0.5
        light = np.interp(times, TIMES, np.linspace(*((1.0, dim) if darker else (dim, 1.0)), FRAMES))
        caption += " getting darker" if darker else " getting brighter"
    backdrop = np.clip(np.array(BACKGROUNDS[background]) + rng.uniform(-6, 6, 3), 0, 255)
    shading = rng.uniform(-0.12, 0.12, 2) * (rng.random() < 0.5)
    return Clip(caption, background, backdrop, shading, light, bodies)


def sample_clips(seed: int, count: int, times: np.ndarray = TIMES, scenes: Scenes = ALL) -> list[Clip]:
    """Return `count` scenes; the same seed gives the same scenes."""
    rng = np.random.default_rng(seed)
    return [sample_clip(rng, times, scenes) for _ in range(count)]


def first_times(clip: Clip, frames: int) -> Clip:
    """Return the clip at the first `frames` of its times."""
    bodies = [
        replace(body, x=body.x[:frames], y=body.y[:frames], radius=body.radius[:frames], angle=body.angle[:frames])
        for body in clip.bodies
    ]
    return replace(clip, light=clip.light[:frames], bodies=bodies)
