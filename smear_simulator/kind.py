"""The kinds of white cell, and which kinds a disease shows.

A kind fixes shape and texture. Typical areas are in square micrometres and only a starting point: the
tissue plan rescales them so that a field's total nuclear and cytoplasmic area says nothing of the class.
Stain density and tint are a starting point too: the stain step redistributes them over the field.
"""

from dataclasses import dataclass

CLASSES = ("healthy", "ALL", "AML", "CLL", "CML")


@dataclass(frozen=True, slots=True)
class Kind:
    """How one kind of white cell looks.

    Attributes:
        name: Kind as it appears in the truth.
        nucleus_um2: Typical area of the nucleus.
        cytoplasm_um2: Typical area of the rest of the cell.
        stretch: How readily the cytoplasm gives way to the field's budget, 0 to 1.
        shape: Outline of the nucleus: round, indented, kidney, band, lobed or smudge.
        shape_low: Least depth of the indentation, or fewest lobes.
        shape_high: Greatest depth of the indentation, or most lobes.
        chromatin: Scale of the texture: fine, medium, coarse, clumped or lacy.
        contrast: Strength of that texture.
        nucleus_density: Stain density of the nucleus.
        nucleus_tint: 0 blue, 0.4 purple, 0.75 lilac pink, 1 orange.
        cytoplasm_density: Stain density of the cytoplasm.
        cytoplasm_tint: Same scale as ``nucleus_tint``.
        granule: Strength of the granules; negative sets coarse dark ones over the nucleus as well.
        nucleoli: Most nucleoli in a nucleus.
        nucleolus_contrast: How pale they are.
        vacuoles: Most vacuoles in the cytoplasm.
        auer: Probability of an Auer rod in a patient who has them.
        hof: Strength of the pale zone beside the nucleus.
        rough: Irregularity of the cell's outline, micrometres.
        eccentric: Shift of the nucleus as a share of the free radius.
    """

    name: str
    nucleus_um2: float
    cytoplasm_um2: float
    stretch: float
    shape: str
    shape_low: float
    shape_high: float
    chromatin: str
    contrast: float
    nucleus_density: float
    nucleus_tint: float
    cytoplasm_density: float
    cytoplasm_tint: float
    granule: float = 0.0
    nucleoli: int = 0
    nucleolus_contrast: float = 0.0
    vacuoles: int = 0
    auer: float = 0.0
    hof: float = 0.0
    rough: float = 0.25
    eccentric: float = 0.4


_TABLE = (
    Kind(
        "segmented_neutrophil",
        62,
        72,
        1.0,
        "lobed",
        3,
        5,
        "coarse",
        0.20,
        1.45,
        0.42,
        0.22,
        0.72,
        granule=0.35,
    ),
    Kind("band_neutrophil", 66, 68, 1.0, "band", 0, 1, "coarse", 0.20, 1.35, 0.42, 0.24, 0.70, granule=0.40),
    Kind("lymphocyte", 52, 16, 0.6, "round", 0.0, 0.12, "clumped", 0.32, 1.42, 0.40, 0.42, 0.10),
    Kind(
        "monocyte",
        95,
        85,
        1.0,
        "kidney",
        0.50,
        0.85,
        "lacy",
        0.13,
        1.15,
        0.44,
        0.34,
        0.36,
        granule=0.15,
        vacuoles=4,
        rough=0.5,
    ),
    Kind("eosinophil", 58, 70, 1.0, "lobed", 2, 2, "coarse", 0.20, 1.35, 0.42, 0.58, 0.94, granule=1.0),
    Kind("basophil", 60, 48, 1.0, "lobed", 2, 3, "coarse", 0.15, 1.05, 0.46, 0.26, 0.62, granule=-1.0),
    Kind(
        "lymphoblast",
        84,
        18,
        0.30,
        "indented",
        0.0,
        0.35,
        "fine",
        0.09,
        1.20,
        0.44,
        0.50,
        0.12,
        nucleoli=1,
        nucleolus_contrast=0.10,
        rough=0.30,
    ),
    Kind(
        "myeloblast",
        88,
        42,
        0.55,
        "indented",
        0.0,
        0.45,
        "fine",
        0.10,
        1.10,
        0.50,
        0.44,
        0.24,
        granule=0.12,
        nucleoli=4,
        nucleolus_contrast=0.36,
        auer=0.40,
        rough=0.32,
        eccentric=0.75,
    ),
    Kind(
        "monoblast",
        100,
        60,
        0.7,
        "kidney",
        0.45,
        0.85,
        "fine",
        0.13,
        1.05,
        0.48,
        0.38,
        0.28,
        granule=0.10,
        nucleoli=2,
        nucleolus_contrast=0.30,
        vacuoles=4,
        rough=0.5,
        eccentric=0.5,
    ),
    Kind(
        "cll_lymphocyte",
        50,
        10,
        0.25,
        "round",
        0.0,
        0.10,
        "clumped",
        0.40,
        1.36,
        0.40,
        0.42,
        0.14,
        rough=0.20,
    ),
    Kind(
        "prolymphocyte",
        74,
        24,
        0.4,
        "round",
        0.0,
        0.15,
        "clumped",
        0.28,
        1.30,
        0.42,
        0.42,
        0.16,
        nucleoli=1,
        nucleolus_contrast=0.34,
    ),
    Kind("smudge_cell", 112, 95, 1.0, "smudge", 0, 0, "lacy", 0.16, 1.00, 0.50, 0.27, 0.50, rough=0.55),
    Kind(
        "metamyelocyte",
        72,
        66,
        1.0,
        "kidney",
        0.75,
        1.1,
        "coarse",
        0.17,
        1.28,
        0.43,
        0.26,
        0.66,
        granule=0.5,
        hof=0.3,
        eccentric=0.6,
    ),
    Kind(
        "myelocyte",
        82,
        66,
        1.0,
        "round",
        0.0,
        0.25,
        "medium",
        0.16,
        1.20,
        0.44,
        0.32,
        0.58,
        granule=0.65,
        hof=0.55,
        eccentric=0.95,
    ),
    Kind(
        "promyelocyte",
        104,
        72,
        1.0,
        "round",
        0.0,
        0.25,
        "medium",
        0.12,
        1.12,
        0.47,
        0.42,
        0.40,
        granule=0.9,
        nucleoli=2,
        nucleolus_contrast=0.24,
        hof=0.6,
        eccentric=0.9,
    ),
)

KINDS = {kind.name: kind for kind in _TABLE}


@dataclass(frozen=True, slots=True)
class Differential:
    """What a class shows: the abnormal (typical) kinds with weights, and the bystanders.

    Attributes:
        typical: Kind names and mean weights of the cells that make the class.
        bystander: Kind names and mean weights of the normal cells among them.
        share: Lowest and highest share of typical cells, drawn per patient.
        concentration: Of the Dirichlet around the means; larger means patients are more alike.
    """

    typical: tuple[tuple[str, float], ...]
    bystander: tuple[tuple[str, float], ...]
    share: tuple[float, float]
    concentration: float = 25.0


_NORMAL = (("segmented_neutrophil", 0.5), ("lymphocyte", 0.28), ("monocyte", 0.20), ("band_neutrophil", 0.02))

DIFFERENTIALS = {
    "healthy": Differential(
        typical=(
            ("segmented_neutrophil", 0.55),
            ("lymphocyte", 0.26),
            ("monocyte", 0.16),
            ("basophil", 0.01),
            ("band_neutrophil", 0.02),
        ),
        bystander=_NORMAL,
        share=(0.6, 0.85),
    ),
    "ALL": Differential(typical=(("lymphoblast", 1.0),), bystander=_NORMAL, share=(0.62, 0.85)),
    "AML": Differential(
        typical=(("myeloblast", 0.74), ("monoblast", 0.26)),
        bystander=_NORMAL,
        share=(0.62, 0.85),
        concentration=6.0,
    ),
    "CLL": Differential(
        typical=(("cll_lymphocyte", 0.66), ("smudge_cell", 0.27), ("prolymphocyte", 0.07)),
        bystander=(("segmented_neutrophil", 0.62), ("monocyte", 0.30), ("lymphocyte", 0.08)),
        share=(0.70, 0.88),
    ),
    "CML": Differential(
        typical=(
            ("myelocyte", 0.32),
            ("metamyelocyte", 0.24),
            ("band_neutrophil", 0.16),
            ("basophil", 0.13),
            ("promyelocyte", 0.10),
            ("myeloblast", 0.05),
        ),
        bystander=(("segmented_neutrophil", 0.75), ("lymphocyte", 0.17), ("monocyte", 0.08)),
        share=(0.62, 0.85),
    ),
}
