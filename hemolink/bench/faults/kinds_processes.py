"""Faults of processes: they end, or stand still."""

from hemolink.bench.faults.scene import Scene, Undo, nothing
from hemolink.bench.faults.schedule import Event


def kill(scene: Scene, event: Event) -> Undo:
    """SIGKILL; the supervisor starts it again."""
    scene.plant.members[event.target].kill()
    return nothing


def freeze(scene: Scene, event: Event) -> Undo:
    """SIGSTOP, then SIGCONT."""
    member = scene.plant.members[event.target]
    member.freeze()
    return member.thaw


def restart_broker(scene: Scene, event: Event) -> Undo:
    """End the broker in order, with time to save; it stays down for a while."""
    member = scene.plant.members[event.target]
    member.hold(orderly=True)
    return member.release


def wipe_broker(scene: Scene, event: Event) -> Undo:
    """Kill the broker and delete what it keeps: retained states, kept sessions, queued messages."""
    member = scene.plant.members[event.target]
    member.hold()
    scene.plant.broker.forget()
    return member.release
