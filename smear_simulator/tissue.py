"""The plan of a slide: which cells lie where, tile by tile, before anything is drawn.

A tile is one field of view. Its number of white cells and the total areas of nuclei and cytoplasm are
drawn without looking at the disease; a differential that comes close is then chosen among several drawn
for the patient, and the cells are rescaled until the totals agree.
"""
# ruff: noqa: PLR2004 (a picture is made of numbers; each stands where it is drawn)

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from smear_simulator.kind import KINDS, Kind
from smear_simulator.patient import Patient

_CANDIDATES = 40
_LEAST_TYPICAL = 0.55
_EOSINOPHIL_PROBABILITY = 0.14  # the same in every class, for their colour is unique
_OFFSET = 1 << 20  # keeps tile numbers non-negative in a seed
MEAN_FIELD_UM2 = 80.0 * 60.0


@dataclass(frozen=True, slots=True)
class WhiteCell:
    """One planned white cell: kind, centre and areas (micrometres), and the seed of its details."""

    kind: Kind
    x_um: float
    y_um: float
    nucleus_um2: float
    cytoplasm_um2: float
    seed: int

    @property
    def radius_um(self) -> float:
        """Radius of a disc of the cell's area."""
        return float(np.sqrt((self.nucleus_um2 + self.cytoplasm_um2) / np.pi))


@dataclass(frozen=True, slots=True)
class Tile:
    """The cells whose centres lie in one tile.

    Attributes:
        white: White cells.
        red: Array (n, 4): x, y, radius in micrometres and a seed.
        platelets: Array (n, 4), likewise.
    """

    white: tuple[WhiteCell, ...]
    red: npt.NDArray[np.float64]
    platelets: npt.NDArray[np.float64]


def plan_tile(patient: Patient, column: int, row: int, *, size_um: tuple[float, float]) -> Tile:
    """Plan the tile at (column, row) of a patient's slide; ``size_um`` is its width and height."""
    key = [patient.seed, column + _OFFSET, row + _OFFSET]
    # Four streams: what the class decides (which kinds) must not shift what it may not touch.
    budget, mixture, place, rest = (np.random.default_rng([*key, stream]) for stream in range(4))
    origin = (column * size_um[0], row * size_um[1])
    share = size_um[0] * size_um[1] / MEAN_FIELD_UM2
    count = max(
        1, int(np.clip(round(budget.normal(patient.white_cells, 0.9)), 5, 10) * share + budget.random())
    )
    scale = patient.cell_scale**2
    nucleus = patient.nucleus_um2 * scale * np.exp(budget.normal(0, 0.06)) * count
    cytoplasm = patient.cytoplasm_um2 * scale * np.exp(budget.normal(0, 0.10)) * count
    sized = _sized(
        _choose(patient, mixture, count, nucleus / scale, cytoplasm / scale), mixture, nucleus, cytoplasm
    )
    if budget.random() < _EOSINOPHIL_PROBABILITY * share:
        kind = KINDS["eosinophil"]
        sized.append((kind, kind.nucleus_um2 * scale, kind.cytoplasm_um2 * scale * 0.85))
    white = _place(sized, place, origin=origin, size_um=size_um)
    return Tile(
        white=white,
        red=_red_cells(patient, rest, origin=origin, size_um=size_um),
        platelets=_platelets(patient, rest, origin=origin, size_um=size_um),
    )


def _choose(
    patient: Patient, rng: np.random.Generator, count: int, nucleus: float, cytoplasm: float
) -> list[tuple[Kind, float, float]]:
    """Draw several differentials and keep the one whose natural areas lie nearest the budget."""
    typical, bystander, share = patient.differential()
    kinds = [KINDS[name] for name, _ in (*typical, *bystander)]
    areas = np.array([(kind.nucleus_um2, kind.cytoplasm_um2) for kind in kinds])
    stretch = np.array([kind.stretch for kind in kinds])
    edges_t = np.cumsum([weight for _, weight in typical])
    edges_b = np.cumsum([weight for _, weight in bystander])
    least = int(np.ceil(_LEAST_TYPICAL * count))
    n_typical = np.maximum(least, rng.binomial(count, share, _CANDIDATES))
    throw = rng.random((_CANDIDATES, count))
    picked_t = np.searchsorted(edges_t / edges_t[-1], throw)
    picked_b = len(typical) + np.searchsorted(edges_b / edges_b[-1], throw)
    picked = np.where(np.arange(count) < n_typical[:, None], picked_t, picked_b)
    drawn = areas[picked] * np.exp(rng.normal(0, [0.13, 0.16], size=(_CANDIDATES, count, 2)))
    total = drawn.sum(axis=1)
    give = (drawn[:, :, 1] * stretch[picked]).sum(axis=1)
    miss = np.log1p(np.maximum((cytoplasm - total[:, 1]) / give, -0.9))
    best = int(np.argmin(2 * np.log(total[:, 0] / nucleus) ** 2 + miss**2))
    return [
        (kinds[which], float(a), float(b)) for which, (a, b) in zip(picked[best], drawn[best], strict=True)
    ]


def _sized(
    cells: list[tuple[Kind, float, float]], rng: np.random.Generator, nucleus: float, cytoplasm: float
) -> list[tuple[Kind, float, float]]:
    """Rescale until the totals are the budget's; stiff kinds keep their cytoplasm as long as others can give."""
    nuclei = np.array([a for _, a, _ in cells])
    bodies = np.array([b for _, _, b in cells])
    stretch = np.array([kind.stretch for kind, _, _ in cells])
    grow = nucleus / nuclei.sum()
    nuclei = nuclei * grow
    bodies = bodies * grow
    low, high = -6.0, 6.0
    for _ in range(40):  # total cytoplasm rises with the exponent: bisect
        middle = 0.5 * (low + high)
        if (bodies * np.exp(middle * stretch)).sum() < cytoplasm:
            low = middle
        else:
            high = middle
    bodies = bodies * np.exp(low * stretch)
    order = rng.permutation(len(cells))
    return [(cells[i][0], float(nuclei[i]), float(bodies[i])) for i in order]


def _place(
    sized: list[tuple[Kind, float, float]],
    rng: np.random.Generator,
    *,
    origin: tuple[float, float],
    size_um: tuple[float, float],
) -> tuple[WhiteCell, ...]:
    """Put cells into the tile, largest first, each where it overlaps least among some random places."""
    placed: list[WhiteCell] = []
    centres = np.empty((0, 3))
    for kind, nucleus, cytoplasm in sorted(sized, key=lambda cell: -(cell[1] + cell[2])):
        radius = float(np.sqrt((nucleus + cytoplasm) / np.pi))
        margin = np.minimum(radius * 0.95, np.array(size_um) / 2.1)
        spots = margin + rng.random((24, 2)) * (np.array(size_um) - 2 * margin)
        seed = int(rng.integers(1 << 40))
        if len(centres):
            gap = np.hypot(spots[:, None, 0] - centres[:, 0], spots[:, None, 1] - centres[:, 1])
            clear = np.min(gap - centres[:, 2] - radius, axis=1)
            good = np.flatnonzero(clear > -0.3)
            spot = spots[good[0]] if len(good) else spots[int(np.argmax(clear))]
        else:
            spot = spots[0]
        centres = np.vstack([centres, [spot[0], spot[1], radius]])
        placed.append(
            WhiteCell(kind, float(origin[0] + spot[0]), float(origin[1] + spot[1]), nucleus, cytoplasm, seed)
        )
    return tuple(placed)


def _red_cells(
    patient: Patient, rng: np.random.Generator, *, origin: tuple[float, float], size_um: tuple[float, float]
) -> npt.NDArray[np.float64]:
    radius = patient.red_diameter_um / 2
    wanted = patient.red_cover * size_um[0] * size_um[1] / (np.pi * radius**2) * np.exp(rng.normal(0, 0.12))
    pitch = np.sqrt(size_um[0] * size_um[1] / max(wanted, 1.0))
    columns = max(1, round(size_um[0] / pitch))
    rows = max(1, round(size_um[1] / pitch))
    x, y = np.meshgrid((np.arange(columns) + 0.5) / columns, (np.arange(rows) + 0.5) / rows)
    spots = np.stack([x.ravel(), y.ravel()], axis=1)
    spots += rng.uniform(-0.62, 0.62, spots.shape) / [columns, rows]
    n = len(spots)
    radii = radius * np.exp(rng.normal(0, patient.red_variation, n))
    seeds = rng.integers(1 << 40, size=n).astype(np.float64)
    return np.column_stack(
        [origin[0] + spots[:, 0] * size_um[0], origin[1] + spots[:, 1] * size_um[1], radii, seeds]
    )


def _platelets(
    patient: Patient, rng: np.random.Generator, *, origin: tuple[float, float], size_um: tuple[float, float]
) -> npt.NDArray[np.float64]:
    n = int(rng.poisson(patient.platelets * size_um[0] * size_um[1] / MEAN_FIELD_UM2))
    spots = rng.random((n, 2)) * size_um
    seeds = rng.integers(1 << 40, size=n).astype(np.float64)
    return np.column_stack(
        [origin[0] + spots[:, 0], origin[1] + spots[:, 1], rng.uniform(0.8, 1.7, n), seeds]
    )
