"""Faults of one client's connection."""

from hemolink.bench.faults.proxy import Weather
from hemolink.bench.faults.scene import Scene, Undo, nothing
from hemolink.bench.faults.schedule import Event

NARROW = Weather(latency_s=0.05, bytes_per_s=60_000)
"""A bad mobile line: 480 kbit/s."""

LOSSY = Weather(latency_s=0.02, stall_share=0.15, stall_s=0.8)
"""Segments get lost: the stream stands still until they are sent again."""


def cut(scene: Scene, event: Event) -> Undo:
    """Reset the connection."""
    scene.plant.proxies[event.target].cut()
    return nothing


def unplug(scene: Scene, event: Event) -> Undo:
    """Reset the connection and let no new one through."""
    proxy = scene.plant.proxies[event.target]
    proxy.shut()
    return proxy.open


def half_open(scene: Scene, event: Event) -> Undo:
    """Swallow what both ends say; neither is told."""
    proxy = scene.plant.proxies[event.target]
    proxy.deafen()
    scene.plant.members[event.target].distrust()
    return proxy.open


def narrow(scene: Scene, event: Event) -> Undo:
    """Little bandwidth, much latency."""
    proxy = scene.plant.proxies[event.target]
    proxy.slow(NARROW)
    return proxy.open


def lossy(scene: Scene, event: Event) -> Undo:
    """Stalls, as after lost segments."""
    proxy = scene.plant.proxies[event.target]
    proxy.slow(LOSSY)
    return proxy.open
