"""What a package's card says of its finer labels, and how it uses them."""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

WEIGHT: str = "finer.weight"
BIAS: str = "finer.bias"


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class FinerFigure(_Part):
    """An area under the ROC curve with its interval."""

    value: float
    low: float
    high: float
    frames: int
    patients: int
    method: str = "over patients, 95 %, Newcombe 2006 (method 5)"


class FinerNode(_Part):
    """One subtype."""

    path: str = Field(description="Codes from the disease down, such as AML/M3.")
    name: str = Field(description="For people.")
    source: str = Field(description="The publication that defines it.")
    frames: int = Field(ge=0, description="Training frames labelled so, or deeper.")
    patients: int = Field(ge=0, description="Their patient groups.")
    cross_fitted_auroc: FinerFigure | None = Field(
        default=None,
        description="Against the disease's other subtypes, on training and calibration patients that the head being "
        "asked had not seen; the network's body had.",
    )
    test_auroc: FinerFigure | None = Field(default=None, description="The same on test patients.")


class Suspicion(_Part):
    """A subtype that must not be missed."""

    path: str
    sentence: str
    source: str = Field(description="The publication behind the sentence.")
    threshold: float = Field(
        ge=0,
        le=1,
        description="Suspected from this probability within the disease, mean over a patient's frames or single frame.",
    )
    wanted_miss_rate: float = Field(
        gt=0, lt=1, description="Of patients, on the patients that set the threshold."
    )
    patients: int = Field(ge=0, description="Patients with the subtype that set the threshold.")
    sensitivity: float = Field(
        ge=0, le=1, description="Of those patients at the threshold, mean over their frames."
    )
    specificity: float = Field(
        ge=0, le=1, description="Patients of the disease's other subtypes that stay below it."
    )


class FinerBranch(_Part):
    """How one disease is divided."""

    disease: str
    system: str = Field(description="FAB, or another way to divide it.")
    leaves: tuple[str, ...] = Field(
        min_length=2, description="Paths, in the order of this branch's rows of the head."
    )
    nodes: tuple[FinerNode, ...] = Field(
        min_length=2, description="The leaves, and what lies between them and the disease."
    )
    temperature: float = Field(gt=0)
    penalty: float = Field(gt=0, description="Of the fit, chosen by cross-fitting.")
    threshold: float | None = Field(
        default=None,
        description="A leaf cannot be ruled out from this probability within the disease; none where too few patients set it, and "
        "then the answer stops at the disease.",
    )
    alpha: float = Field(gt=0, lt=1, description="Wanted share of frames whose leaf is ruled out wrongly.")
    patients: int = Field(ge=0, description="Patients that set temperature and threshold.")
    suspicions: tuple[Suspicion, ...] = ()


class FinerLabels(_Part):
    """The tree of a package, as far as it was trained."""

    tree_version: str
    method: Literal[
        "linear on pooled features, softmax within the disease, marginal likelihood, cross-fitted by patient"
    ] = "linear on pooled features, softmax within the disease, marginal likelihood, cross-fitted by patient"
    prior: str = "as if the subtypes of a disease were equally frequent"
    branches: tuple[FinerBranch, ...] = Field(min_length=1, description="In the order of the head's rows.")
    notes: tuple[str, ...] = Field(default=(), description="What a reader of these labels must know.")
