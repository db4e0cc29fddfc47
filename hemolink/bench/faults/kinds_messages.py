"""Faults of what is said: poison frames, frames too large, stale copies, a credential that is taken away."""

from hemolink.bench.faults.pictures import Sort
from hemolink.bench.faults.plant import BROKER
from hemolink.bench.faults.scene import Begin, Scene, Undo, nothing
from hemolink.bench.faults.schedule import Event


def give(sort: Sort) -> Begin:
    """Return the fault that gives an edge one picture of a sort."""

    def begin(scene: Scene, event: Event) -> Undo:
        scene.load.give(event.target, at_s=scene.elapsed(), sort=sort)
        return nothing

    return begin


def repeat(scene: Scene, event: Event) -> Undo:
    """Hear what is said for a while, then say old and new of it again in any order."""
    del event
    scene.echo.listen(scene.plant.broker.port)
    return scene.echo.speak


def revoke(scene: Scene, event: Event) -> Undo:
    """Take a client's password away and cut it off; give it back later."""
    plant = scene.plant
    plant.broker.revoke(plant.roles[event.target])
    plant.members[BROKER].hang_up()
    plant.proxies[event.target].cut()

    def restore() -> None:
        plant.broker.restore()
        plant.members[BROKER].hang_up()

    return restore
