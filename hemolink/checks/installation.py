"""Which roles this installation can play."""

import importlib
import importlib.metadata
import importlib.util
from collections.abc import Collection

from hemolink.finding import Finding, fault, fine

AREA = "packages"
ROLE_MODULES = {
    "edge": ("cv2", "simplejpeg"),
    "worker": ("cv2", "openvino", "safetensors", "simplejpeg"),
    "dashboard": ("fastapi", "jinja2", "sqlalchemy", "uvicorn"),
    "embedded": ("amqtt",),
}
"""Third-party modules that each role's extra brings; the base installation brings the rest."""
BASE_MODULES = ("cbor2", "click", "numpy", "paho.mqtt.client", "prometheus_client", "pydantic", "yaml")


def check_installation(needed: Collection[str]) -> list[Finding]:
    """Import what each role needs.

    Args:
        needed: Roles whose settings were given: for them a missing package is a fault; for others it is only told.
    """
    findings = [_base()]
    for role, modules in ROLE_MODULES.items():
        findings.append(_role(role, modules, needed=role in needed))
    return findings


def _base() -> Finding:
    broken = [reason for module in BASE_MODULES if (reason := _import_fault(module))]
    if broken:
        return fault(
            AREA,
            f"base: {'; '.join(broken)}",
            "install Hemolink again: pip install --force-reinstall hemolink",
        )
    try:
        version = importlib.metadata.version("hemolink")
    except importlib.metadata.PackageNotFoundError:
        version = "not installed as a distribution"
    return fine(AREA, f"base: hemolink {version}")


def _role(role: str, modules: Collection[str], *, needed: bool) -> Finding:
    absent = [module for module in modules if importlib.util.find_spec(module) is None]
    install = f"pip install 'hemolink[{role}]'"
    if absent and needed:
        return fault(AREA, f"{role}: {', '.join(absent)} not installed", install)
    if absent:
        return fine(AREA, f"{role}: not installed here (if it should be: {install})")
    broken = [reason for module in modules if (reason := _import_fault(module))]
    if broken:
        return fault(AREA, f"{role}: {'; '.join(broken)}", f"{install} again with --force-reinstall")
    return fine(AREA, f"{role}: installed")


def _import_fault(module: str) -> str:
    try:
        importlib.import_module(module)
    except Exception as error:  # noqa: BLE001 - a broken binary package may raise anything at import
        return f"{module} does not import ({type(error).__name__}: {error})"
    return ""
