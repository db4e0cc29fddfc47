"""Finds the model package of the settings and makes the predictor that serves it."""

from broker_config.messages import ModelIdentity
from cloud_worker import diagnosis
from cloud_worker.errors import ModelUnusable
from cloud_worker.settings import Settings
from model_zoo.catalogue import find_package
from model_zoo.errors import ModelZooError
from model_zoo.package import ModelPackage
from model_zoo.predictor import Predictor


def open_package(settings: Settings) -> ModelPackage:
    """Return the verified package that the settings name.

    Raises:
        ModelUnusable: If there is none, or its hashes do not match, or it holds a pickle.
    """
    try:
        return find_package(settings.model, settings.model_search_path)
    except ModelZooError as error:
        raise ModelUnusable(f"model {settings.model!r} cannot be served: {error}") from error


def make_predictor(settings: Settings, package: ModelPackage) -> Predictor:
    """Return the predictor for a package, not started.

    Raises:
        ModelUnusable: If the engine is not installed or cannot run at the wanted precision.
    """
    try:
        return Predictor(
            package,
            engine=settings.engine,
            precision=settings.precision,
            max_batch_size=settings.max_batch_size,
        )
    except ModelZooError as error:
        raise ModelUnusable(f"engine {settings.engine!r} cannot be used: {error}") from error


def load(settings: Settings) -> tuple[Predictor, ModelIdentity, tuple[int, int]]:
    """Load and start the model of the settings; takes seconds.

    Returns:
        The predictor, how it introduces itself, and width and height in pixels of its input.

    Raises:
        ModelUnusable: If it cannot be served.
    """
    package = open_package(settings)
    predictor = make_predictor(settings, package)
    try:
        predictor.start()
    except ModelZooError as error:
        raise ModelUnusable(f"model {package.name} cannot be started: {error}") from error
    preprocessing = package.card.preprocessing
    identity = diagnosis.identity_of(package, engine=predictor.engine_name)
    return predictor, identity, (preprocessing.width, preprocessing.height)
