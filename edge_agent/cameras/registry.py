"""Finds a camera by its kind: the built-in ones, and what others add by entry point."""

from importlib import import_module
from importlib.metadata import entry_points
from typing import Any, cast

from pydantic import BaseModel, ValidationError

from broker_config.errors import SettingsError
from edge_agent.cameras.base import Camera, CameraContext
from edge_agent.cameras.settings import OtherSettings

GROUP = "hemolink.cameras"
_BUILT_IN = {
    "device": "edge_agent.cameras.device:DeviceCamera",
    "stream": "edge_agent.cameras.stream:StreamCamera",
    "video": "edge_agent.cameras.video:VideoCamera",
    "folder": "edge_agent.cameras.folder:FolderCamera",
    "simulated": "edge_agent.cameras.simulated:SimulatedCamera",
}
"""Used for these names whatever is installed, so that the package also works from a plain checkout."""


def camera_kinds() -> dict[str, str]:
    """Return every known kind with the ``module:class`` that provides it."""
    others = {point.name: point.value for point in entry_points(group=GROUP)}
    return dict(sorted((others | _BUILT_IN).items()))


def camera_class(kind: str) -> type[Camera]:
    """Return the class that provides a kind of camera.

    Raises:
        SettingsError: If nothing provides it, or what provides it cannot be loaded.
    """
    kinds = camera_kinds()
    if kind not in kinds:
        raise SettingsError(
            f"camera.kind {kind!r} is not known here: use one of {', '.join(kinds)}, or install the distribution that "
            f"provides it (entry-point group {GROUP})"
        )
    module, _, name = kinds[kind].partition(":")
    try:
        return cast("type[Camera]", getattr(import_module(module), name))
    except (ImportError, AttributeError) as error:
        raise SettingsError(
            f"camera.kind {kind!r}: {kinds[kind]} cannot be loaded ({error}): "
            "install the extra 'edge' (pip install 'hemolink[edge]'), or the distribution that provides this camera"
        ) from None


def create_camera(settings: BaseModel, context: CameraContext | None = None) -> Camera:
    """Return the camera that a settings section describes; it is not opened.

    Raises:
        SettingsError: If its kind is unknown, or its options are not valid.
    """
    kind: str = getattr(settings, "kind", "")
    found = camera_class(kind)
    chosen: Any = settings
    if isinstance(settings, OtherSettings):
        try:
            chosen = found.Settings.model_validate(settings.options)
        except ValidationError as error:
            first = error.errors(include_url=False, include_input=False)[0]
            where = ".".join(str(part) for part in ("camera", "options", *first["loc"]))
            raise SettingsError(
                f"{where} is not valid ({first['msg']}): known keys are {', '.join(found.Settings.model_fields)}"
            ) from None
    return found(chosen, context or CameraContext())
