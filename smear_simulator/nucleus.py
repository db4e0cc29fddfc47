"""Outlines of nuclei as signed distances (micrometres, negative inside), before their area is set."""
# ruff: noqa: PLR2004 (a picture is made of numbers; each stands where it is drawn)

import numpy as np

from smear_simulator.kind import Kind
from smear_simulator.noise import FloatImage


def nucleus_distance(
    kind: Kind, area_um2: float, x: FloatImage, y: FloatImage, rng: np.random.Generator
) -> FloatImage:
    """Return the distance field of one nucleus on the coordinates ``x`` and ``y`` (micrometres, turned at random)."""
    radius = float(np.sqrt(area_um2 / np.pi))
    depth = float(rng.uniform(kind.shape_low, kind.shape_high))
    if kind.shape == "lobed":
        return _lobed(radius, round(depth), x, y, rng)
    if kind.shape == "band":
        return _band(area_um2, x, y, rng)
    aspect = float(np.exp(rng.normal(0, 0.05 if kind.shape == "round" else 0.10)))
    distance = np.asarray(np.sqrt((x * aspect) ** 2 + (y / aspect) ** 2) - radius, dtype=np.float32)
    if depth > 0.02:
        # A round bite from one side: a dent in a blast, a kidney in a metamyelocyte.
        bite = radius * float(rng.uniform(0.62, 0.90))
        away = radius * 1.02 + bite - depth * radius * 0.85
        from_bite = np.sqrt(x**2 + (y - away) ** 2)
        distance = _smooth_max(distance, np.asarray(bite - from_bite, np.float32), 0.35)
    return distance


def _lobed(radius: float, lobes: int, x: FloatImage, y: FloatImage, rng: np.random.Generator) -> FloatImage:
    """Lobes strung along an arc and joined by bridges."""
    lobe = radius / np.sqrt(lobes) * 0.97
    span = float(rng.uniform(0.55, 0.78)) * 2 * np.pi if lobes > 2 else 0.5 * np.pi
    arc = lobe * (1.10 + 0.14 * lobes) if lobes > 2 else lobe * 1.35
    angles = np.linspace(-span / 2, span / 2, lobes) + rng.normal(0, 0.10, lobes)
    reach = arc * (1 + rng.normal(0, 0.10, lobes))
    px, py = reach * np.cos(angles) - arc * 0.35, reach * np.sin(angles)
    size = lobe * np.exp(rng.normal(0, 0.10, lobes))
    distance: FloatImage | None = None
    for i in range(lobes):
        stretch = float(np.exp(rng.normal(0.16, 0.08)))
        turn = float(rng.uniform(0, np.pi))
        c, s = np.cos(turn), np.sin(turn)
        u = c * (x - px[i]) + s * (y - py[i])
        v = c * (y - py[i]) - s * (x - px[i])
        part = np.sqrt((u / stretch) ** 2 + (v * stretch) ** 2) - size[i]
        distance = part if distance is None else _smooth_max(-distance, -part, 0.2, invert=True)
        if i:
            part = _segment(x, y, (px[i - 1], py[i - 1]), (px[i], py[i])) - lobe * 0.34
            distance = np.minimum(distance, part)
    return np.asarray(distance, dtype=np.float32)


def _band(area_um2: float, x: FloatImage, y: FloatImage, rng: np.random.Generator) -> FloatImage:
    """One ribbon of even width, bent into a horseshoe."""
    half = float(np.sqrt(area_um2)) * float(rng.uniform(0.198, 0.232))
    length = area_um2 / (2 * half)
    bend = float(rng.uniform(3.7, 4.9))
    twist = rng.normal(0, 0.20, 8)
    heading = np.linspace(-bend / 2, bend / 2, 8) + twist
    step = length / 8
    px = np.concatenate([[0.0], np.cumsum(np.cos(heading) * step)])
    py = np.concatenate([[0.0], np.cumsum(np.sin(heading) * step)])
    px -= px.mean()
    py -= py.mean()
    distance = np.full_like(x, 1e3)
    for i in range(8):
        width = half * (1 + 0.10 * np.sin(i * 1.7 + twist[0] * 9))
        distance = np.minimum(distance, _segment(x, y, (px[i], py[i]), (px[i + 1], py[i + 1])) - width)
    return np.asarray(distance, dtype=np.float32)


def _segment(x: FloatImage, y: FloatImage, a: tuple[float, float], b: tuple[float, float]) -> FloatImage:
    dx, dy = b[0] - a[0], b[1] - a[1]
    along = ((x - a[0]) * dx + (y - a[1]) * dy) / (dx * dx + dy * dy + 1e-9)
    along = np.clip(along, 0, 1)
    return np.asarray(np.hypot(x - a[0] - along * dx, y - a[1] - along * dy), dtype=np.float32)


def _smooth_max(a: FloatImage, b: FloatImage, width: float, *, invert: bool = False) -> FloatImage:
    blend = np.clip(0.5 + 0.5 * (a - b) / width, 0, 1)
    result = b + (a - b) * blend + width * blend * (1 - blend)
    return np.asarray(-result if invert else result, dtype=np.float32)
