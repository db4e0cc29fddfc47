"""The plant: two edges, three workers, Mosquitto and the record as processes, each client behind a proxy of its own."""

import os
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from broker_config.roles import Member as Role
from hemolink.bench.faults import plant_settings
from hemolink.bench.faults.broker import Broker
from hemolink.bench.faults.clock import Clock, find_library
from hemolink.bench.faults.disk import Disk
from hemolink.bench.faults.member import Daemon, Member
from hemolink.bench.faults.pictures import MAX_PACKET_BYTES
from hemolink.bench.faults.proxy import Proxy
from hemolink.errors import NotReady

BROKER, RECORD = "broker", "record"
EDGES = ("edge-1", "edge-2")
WORKERS = ("worker-1", "worker-2", "worker-3")
CLIENTS = (*EDGES, *WORKERS, RECORD)
MEMBERS = (BROKER, RECORD, *WORKERS, *EDGES)

_READY_S = 120.0
_STOP_S = 20.0
_EDGE_DISK = 64 << 20
_RECORD_DISK = 192 << 20
_SHM = Path("/dev/shm")  # noqa: S108 - where libfaketime leaves files, if it is not covered
_SHM_SIZE = 16 << 20


@dataclass(frozen=True)
class PlantOptions:
    """How to build the plant.

    Attributes:
        seed: Of whatever is drawn by chance in it.
        real_workers: How many of the workers serve the packaged model; the others serve a stand-in.
        resend: Whether the edges send again what is not receipted; false shows what that rule is for.
        no_mounts: Why no disk of its own can be had, or empty if it can.
    """

    seed: int
    real_workers: int = 1
    resend: bool = True
    no_mounts: str = ""


class Plant:
    """Everything that runs.

    Args:
        directory: An empty folder.
        options: How to build it.
    """

    def __init__(self, directory: Path, options: PlantOptions) -> None:
        self.directory = directory
        self.options = options
        self.members: dict[str, Member] = {}
        self.proxies: dict[str, Proxy] = {}
        self.clocks: dict[str, Clock] = {}
        self.disks: dict[str, Disk] = {}
        self.roles: dict[str, Role] = _roles()
        self.broker = Broker(
            directory / "mosquitto",
            tuple(self.roles.values()),
            max_packet_bytes=MAX_PACKET_BYTES,
            user="root" if os.geteuid() == 0 else None,
        )
        self.impossible: dict[str, str] = {}
        self._cleanup = ExitStack()

    # Where things lie

    def home(self, name: str) -> Path:
        """Return a client's own directory."""
        return self.directory / name

    def folder(self, edge: str) -> Path:
        """Return the folder that an edge's camera watches."""
        return self.directory / "pictures" / edge

    def log(self, name: str) -> Path:
        """Return a member's log."""
        return self.directory / "logs" / f"{name}.log"

    @property
    def record_database(self) -> Path:
        """The record's database."""
        return self.home(RECORD) / "record.sqlite"

    # Life

    def start(self, *, told: Callable[[str], object], stopping: Callable[[], bool]) -> None:
        """Start everything and wait until all are ready.

        Args:
            told: Hears what is being waited for.
            stopping: Whether nobody waits any more.

        Raises:
            NotReady: If one is not ready in time.
            ContractError: If the broker's files cannot be made.
        """
        self._mount()
        self._set_clocks()
        self.broker.prepare()
        for client in CLIENTS:
            proxy = self.proxies[client] = Proxy(lambda: self.broker.address, seed=self.options.seed)
            proxy.start()
            self._cleanup.callback(proxy.stop)
        for edge in EDGES:
            self.folder(edge).mkdir(parents=True)
        self.members[BROKER] = Member(BROKER, self.broker)
        for client in CLIENTS:
            self.members[client] = Member(client, self._daemon(client))
        for name in MEMBERS:
            self._cleanup.callback(self._end, name)
        for stage in ((BROKER,), (RECORD, *WORKERS), EDGES):
            for name in stage:
                self.members[name].start()
            self._await(stage, told=told, stopping=stopping)

    def tend(self) -> None:
        """Start again whatever has ended."""
        for member in self.members.values():
            member.tend()

    def stop_daemons(self) -> list[str]:
        """End every process in order, the source first; returns those that had to be killed."""
        stubborn = []
        for name in (*EDGES, *WORKERS, RECORD, BROKER):
            member = self.members.get(name)
            if member is not None and not member.stop(_STOP_S):
                stubborn.append(name)
        return stubborn

    def stop(self, *, keep: Path | None = None) -> None:
        """End everything that runs and let the disks go. Safe to call at any time.

        Args:
            keep: Copy the whole directory there first, since the disks vanish.
        """
        try:
            self.stop_daemons()
            if keep is not None:
                for disk in self.disks.values():
                    disk.empty()
                shutil.copytree(self.directory, keep, dirs_exist_ok=True)
        finally:
            self._cleanup.close()

    def unready(self) -> dict[str, str]:
        """Return the members that are not ready, each with its reason."""
        return {name: member.fault for name, member in self.members.items() if not member.ready}

    # Inside

    def _mount(self) -> None:
        if self.options.no_mounts:
            self.impossible["disk"] = self.options.no_mounts
            return
        sizes = {**dict.fromkeys(EDGES, _EDGE_DISK), RECORD: _RECORD_DISK}
        try:
            for name, size in sizes.items():
                disk = Disk(self.home(name), size_bytes=size)
                disk.mount()
                self.disks[name] = disk
                self._cleanup.callback(disk.unmount)
            if _SHM.is_dir():
                shared = Disk(_SHM, size_bytes=_SHM_SIZE)
                shared.mount()
                self._cleanup.callback(shared.unmount)
        except OSError as error:
            self.impossible["disk"] = f"a tmpfs cannot be mounted ({error.strerror or error})"

    def _set_clocks(self) -> None:
        library = find_library()
        if library is None:
            self.impossible["clock"] = "libfaketime is not installed (Debian: apt-get install faketime)"
            return
        for client in CLIENTS:
            if self._serves_package(client):
                # A process that it forks beside its engine's threads was seen to hang in libfaketime's locks.
                self.impossible[f"clock of {client}"] = (
                    "libfaketime and the engine's threads do not go together"
                )
                continue
            clock = self.clocks[client] = Clock(library, self.directory / "clocks" / client)
            clock.right()

    def _daemon(self, client: str) -> Daemon:
        clock = self.clocks.get(client)
        link = plant_settings.broker_section(
            port=self.proxies[client].port,
            username=self.roles[client].username,
            password_file=self.broker.password_file(self.roles[client]),
        )
        if client in EDGES:
            role, module = "edge", "edge_agent"
            settings = plant_settings.edge(
                client,
                home=self.home(client),
                folder=self.folder(client),
                broker=link,
                resend=self.options.resend,
            )
        elif client == RECORD:
            role, module = "dashboard", "clinician_dashboard"
            settings = plant_settings.record(home=self.home(client), broker=link)
        else:
            role = "worker"
            module = "cloud_worker" if self._serves_package(client) else "hemolink.bench.faults.stand_in"
            settings = plant_settings.worker(client, home=self.home(client), broker=link)
        return Daemon(
            role,
            name=client,
            module=module,
            settings=settings,
            directory=self.directory,
            environment=clock.environment if clock is not None else {},
        )

    def _serves_package(self, client: str) -> bool:
        return client in WORKERS and WORKERS.index(client) < self.options.real_workers

    def _await(
        self, names: tuple[str, ...], *, told: Callable[[str], object], stopping: Callable[[], bool]
    ) -> None:
        deadline = time.monotonic() + _READY_S
        while not stopping():
            self.tend()
            waiting = [name for name in names if not self.members[name].ready]
            if not waiting:
                return
            told(f"  … waiting for {', '.join(waiting)}")
            if time.monotonic() > deadline:
                first = self.members[waiting[0]]
                raise NotReady(
                    f"{first.name} was not ready within {_READY_S:.0f} s: {first.fault} (log: {self.log(first.name)}; "
                    "keep it with --keep)"
                )
            time.sleep(0.1)

    def _end(self, name: str) -> None:
        self.members[name].stop(1.0)


def _roles() -> dict[str, Role]:
    return dict(_each_role())


def _each_role() -> Iterator[tuple[str, Role]]:
    for edge in EDGES:
        yield edge, Role("edge", edge, plant_settings.SITE)
    for worker in WORKERS:
        yield worker, Role("worker", worker)
    yield RECORD, Role("dashboard", RECORD)
