"""Simulated patients: a disease, and traits that are drawn without looking at it."""
# ruff: noqa: PLR2004 (a picture is made of numbers; each stands where it is drawn)

from dataclasses import dataclass

import numpy as np

from smear_simulator.errors import SettingError, UnknownDiseaseError
from smear_simulator.kind import CLASSES, DIFFERENTIALS

_IDS = 1_000_000

Triple = tuple[float, float, float]


@dataclass(frozen=True, slots=True)
class Stain:
    """One patient's staining and slide colour; every value is independent of the disease.

    Attributes:
        background: BGR of an empty place, 0 to 255.
        lab_shift: Shift of the stain in L*, a* and b*, applied to every stained part.
        red_density: Optical density of a red cell's thick rim.
        nucleus_density: Mean optical density of nuclei.
        nucleus_spread: Its standard deviation over nuclear pixels.
        cytoplasm_density: Mean optical density of white cells' cytoplasm.
        cytoplasm_spread: Its standard deviation.
        tint: Mean tint of cytoplasm (0 blue to 1 orange).
        tint_spread: Its standard deviation.
        nucleus_tint: Mean tint of nuclei.
    """

    background: Triple
    lab_shift: Triple
    red_density: float
    nucleus_density: float
    nucleus_spread: float
    cytoplasm_density: float
    cytoplasm_spread: float
    tint: float
    tint_spread: float
    nucleus_tint: float


@dataclass(frozen=True, slots=True)
class Patient:
    """One simulated patient, whose seed fixes every cell on the slide.

    Two patients of one seed and different diseases share every trait; only the cells' morphology and the
    differential count differ.

    Attributes:
        patient_id: Opaque identifier (``SIM-`` and six digits).
        disease: One of ``CLASSES``.
        seed: Seed of the slide.
        stain: Colours of the slide.
        white_cells: Mean number of white cells in a field of 80 x 60 micrometres.
        red_cover: Share of a field that red cells would cover.
        cell_scale: Linear size of white cells, about 1.
        nucleus_um2: Mean area of nuclei that fields aim at.
        cytoplasm_um2: Mean area of cytoplasm that fields aim at.
        red_diameter_um: Mean diameter of red cells.
        red_variation: Variation of their size (anisocytosis) and shape.
        pallor: Depth of the red cells' central pallor, 0 to 1.
        crenation: Share of crenated red cells.
        platelets: Mean number of platelets in a field.
        chromatin: Linear scale of chromatin texture, about 1.
        chromatin_contrast: Strength of chromatin texture, about 1.
        auer_rods: Whether myeloblasts may carry Auer rods (seen only where there are myeloblasts).
        typical_share: Quantile, 0 to 1, of the share of typical cells within the class's range.
    """

    patient_id: str
    disease: str
    seed: int
    stain: Stain
    white_cells: float
    red_cover: float
    cell_scale: float
    nucleus_um2: float
    cytoplasm_um2: float
    red_diameter_um: float
    red_variation: float
    pallor: float
    crenation: float
    platelets: float
    chromatin: float
    chromatin_contrast: float
    auer_rods: bool
    typical_share: float

    @classmethod
    def sample(cls, disease: str, *, seed: int) -> "Patient":
        """Draw a patient.

        Args:
            disease: One of ``CLASSES``.
            seed: Non-negative integer; the last six digits become the identifier.

        Raises:
            UnknownDiseaseError: If ``disease`` is not one of ``CLASSES``.
            SettingError: If ``seed`` is negative.
        """
        if disease not in CLASSES:
            message = f"unknown disease {disease!r}; choose one of {', '.join(CLASSES)}"
            raise UnknownDiseaseError(message)
        if seed < 0:
            message = f"patient seed {seed} is negative; use zero or more"
            raise SettingError(message)
        rng = np.random.default_rng([seed, 1])  # never seeded by the disease: traits cannot follow it

        def normal(mean: float, sd: float, low: float, high: float) -> float:
            return float(np.clip(rng.normal(mean, sd), low, high))

        return cls(
            patient_id=f"SIM-{seed % _IDS:06d}",
            disease=disease,
            seed=seed,
            stain=_sample_stain(rng),
            white_cells=float(rng.uniform(5.8, 8.2)),
            red_cover=float(rng.uniform(0.18, 0.55)),
            cell_scale=normal(1.0, 0.06, 0.87, 1.14),
            nucleus_um2=float(72 * np.exp(normal(0, 0.07, -0.16, 0.16))),
            cytoplasm_um2=float(44 * np.exp(normal(0, 0.13, -0.3, 0.3))),
            red_diameter_um=normal(7.3, 0.35, 6.4, 8.2),
            red_variation=float(rng.uniform(0.03, 0.11)),
            pallor=float(rng.uniform(0.12, 0.8)),
            crenation=float(rng.choice([0.0, 0.03, 0.12, 0.5], p=[0.4, 0.35, 0.18, 0.07])),
            platelets=float(rng.uniform(1.0, 7.0)),
            chromatin=normal(1.0, 0.08, 0.82, 1.2),
            chromatin_contrast=normal(1.0, 0.12, 0.7, 1.35),
            auer_rods=bool(rng.random() < 0.6),
            typical_share=float(rng.random()),
        )

    def differential(self) -> tuple[tuple[tuple[str, float], ...], tuple[tuple[str, float], ...], float]:
        """Return this patient's typical kinds, bystander kinds (name, weight), and share of typical cells."""
        law = DIFFERENTIALS[self.disease]
        rng = np.random.default_rng([self.seed, 2])

        def drawn(mean: tuple[tuple[str, float], ...]) -> tuple[tuple[str, float], ...]:
            weights = rng.dirichlet(np.array([weight for _, weight in mean]) * law.concentration + 0.05)
            return tuple((name, float(weight)) for (name, _), weight in zip(mean, weights, strict=True))

        low, high = law.share
        return drawn(law.typical), drawn(law.bystander), low + (high - low) * self.typical_share


def _sample_stain(rng: np.random.Generator) -> Stain:
    # Backgrounds run from the cream of a slide scanner to the cold white of a phone on an eyepiece.
    warm = rng.beta(1.3, 1.3)
    light = rng.uniform(230, 253)
    blue = light - 48 * warm + rng.normal(0, 5)
    green = light - 21 * warm + rng.normal(0, 4)
    red = light + rng.normal(0, 4)
    return Stain(
        background=(
            float(np.clip(blue, 165, 253)),
            float(np.clip(green, 200, 252)),
            float(np.clip(red, 205, 253)),
        ),
        lab_shift=(float(rng.normal(0, 3.0)), float(rng.normal(0, 5.0)), float(rng.normal(0, 5.5))),
        red_density=float(rng.uniform(0.30, 0.62)),
        nucleus_density=float(rng.uniform(1.0, 1.45)),
        nucleus_spread=float(rng.uniform(0.18, 0.28)),
        cytoplasm_density=float(rng.uniform(0.30, 0.48)),
        cytoplasm_spread=float(rng.uniform(0.09, 0.15)),
        tint=float(rng.uniform(0.24, 0.52)),
        tint_spread=float(rng.uniform(0.14, 0.24)),
        nucleus_tint=float(rng.uniform(0.30, 0.56)),
    )


def population(n: int, *, seed: int) -> list[Patient]:
    """Draw ``n`` patients with balanced classes in shuffled order; identifiers are unique and opaque.

    Raises:
        SettingError: If ``n`` is not between 1 and 1,000,000, or the seed is negative.
    """
    if not 1 <= n <= _IDS:
        message = f"cannot draw {n} patients; ask for 1 to {_IDS:,}"
        raise SettingError(message)
    if seed < 0:
        message = f"population seed {seed} is negative; use zero or more"
        raise SettingError(message)
    rng = np.random.default_rng([seed, 3])
    order = rng.permutation(np.arange(n) % len(CLASSES))
    numbers = rng.choice(_IDS, size=n, replace=False)
    return [
        Patient.sample(CLASSES[which], seed=seed * _IDS + int(number))
        for which, number in zip(order, numbers, strict=True)
    ]
