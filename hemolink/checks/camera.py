"""Whether the camera that an edge's settings name gives a picture."""

from edge_agent.settings import Settings
from hemolink.finding import Finding, fault, fine, warning

AREA = "camera"
TIMEOUT_S = 10.0


def check_camera(settings: Settings) -> list[Finding]:
    """Open the camera and take one picture; nothing is kept or sent."""
    from broker_config.errors import SettingsError  # noqa: PLC0415
    from edge_agent.cameras.registry import create_camera  # noqa: PLC0415 - OpenCV may be missing
    from edge_agent.errors import CameraEnded, CameraError, UnreadableFrame  # noqa: PLC0415

    kind = settings.camera.kind
    try:
        camera = create_camera(settings.camera)
        camera.open()
    except (CameraError, SettingsError) as error:
        return [fault(AREA, *_split(f"{kind}: {error}"))]
    try:
        frame = camera.capture(timeout_s=TIMEOUT_S)
    except CameraEnded as error:
        return [warning(AREA, f"{kind}: {error}", "give it something to take, or choose another camera")]
    except UnreadableFrame as error:
        return [warning(AREA, f"{kind}: its first picture is not readable: {error}", "look at that picture")]
    except CameraError as error:
        return [fault(AREA, *_split(f"{kind}: {error}"))]
    finally:
        camera.close()
    if frame is None:
        return [
            warning(
                AREA,
                f"{kind}: opened, but gave no picture within {TIMEOUT_S:.0f} s",
                "check that it is switched on",
            )
        ]
    height, width = frame.image.shape[:2]
    size = f", {frame.pixel_size_um:g} um a pixel" if frame.pixel_size_um else ""
    simulated = ", SIMULATED" if frame.simulated else ""
    return [fine(AREA, f"{kind}: {width} x {height}{size}{simulated}")]


def _split(message: str) -> tuple[str, str]:
    """Part an error's sentence, 'what: cause: remedy', into what was found and what to do."""
    said, separator, remedy = message.rpartition(": ")
    return (said, remedy) if separator else (message, "check the camera and its settings")
