"""Whether model packages are whole: every file's hash against the card's, nothing pickled."""

from collections.abc import Callable
from functools import partial

from hemolink.finding import Finding, fault, fine, warning

AREA = "model"
REMEDY = "fetch the package again, or name another ('hemolink model list')"


def check_models(wanted: str | None) -> list[Finding]:
    """Check one package, or all that are shipped.

    Args:
        wanted: Name or folder of the package that a worker's settings ask for; none: all shipped ones.
    """
    try:
        from model_zoo.catalogue import find_package, package_folders  # noqa: PLC0415 - the worker's extra is optional
        from model_zoo.package import ModelPackage  # noqa: PLC0415
    except ModuleNotFoundError as error:
        if wanted is None:
            return [
                fine(AREA, f"not checked: {error.name} is not installed (pip install 'hemolink[worker]')")
            ]
        return [fault(AREA, f"{wanted}: {error.name} is not installed", "pip install 'hemolink[worker]'")]
    if wanted is not None:
        return [_check(wanted, partial(find_package, wanted))]
    folders = list(package_folders())
    if not folders:
        return [warning(AREA, "no model package is shipped with this installation", REMEDY)]
    return [_check(folder.name, partial(ModelPackage.load, folder)) for folder in folders]


def _check(name: str, load: Callable[[], object]) -> Finding:
    from model_zoo.errors import ModelZooError  # noqa: PLC0415
    from model_zoo.package import ModelPackage  # noqa: PLC0415

    try:
        package = load()
    except (ModelZooError, OSError) as error:
        return fault(AREA, f"{name}: {error}", REMEDY)
    if not isinstance(package, ModelPackage):
        raise TypeError(name)
    simulated = ", trained on SIMULATED smears" if package.card.simulated else ""
    return fine(AREA, f"{package.name} {package.version}, weights {package.weights_sha256[:12]}{simulated}")
