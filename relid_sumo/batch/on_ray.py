"""Run cells as Ray tasks. Each task spawns a process (forking in Ray's threads is unsafe) and sends its files back.

A task receives the scenario's files and the run folder of an earlier attempt. It yields progress, and at intervals its
run folder (a parcel). A lost node therefore costs only the work since its last parcel.
"""

from __future__ import annotations

import logging
import os
import socket
import time
from collections import Counter
from collections.abc import Generator, Iterator, Sequence
from pathlib import Path
from typing import Any

from relid_sumo.base import temporary
from relid_sumo.base.errors import InputError, RelidSumoError, SimulationError, missing_extra
from relid_sumo.base.process import free_memory_mib
from relid_sumo.batch import cell, parcel
from relid_sumo.batch.cell import CellProgress, Order
from relid_sumo.batch.events import Event
from relid_sumo.batch.experiment import Cell

PARCEL_EVERY_S = 30.0
TRIES = 4  # attempts at a cell whose node dies
Message = tuple[CellProgress | RelidSumoError | None, bytes | None]


def run(orders: Sequence[Order], address: str | None = None) -> Generator[Event]:
    """Run orders as Ray tasks. Closing the iterator ends the running cells.

    Parameters
    ----------
    address
        Address of a cluster (``host:port`` or ``auto``). Default: start Ray on this machine.

    Raises
    ------
    InputError
        Ray is not installed or cannot be reached, or no node has enough cores for a cell.
    """
    ray = _connect(address, max(order.workers for order in orders))
    scenarios = {order.scenario: None for order in orders}
    shipped = {folder: ray.put(parcel.pack_scenario(folder)) for folder in scenarios}
    tries: Counter[str] = Counter()
    running: dict[Any, Order] = {}

    def submit(order: Order) -> None:
        begun = ray.put(parcel.pack_run(order.folder, order.log)) if order.folder.is_dir() else None
        task = ray.remote(num_cpus=order.workers, max_retries=0)(drive)
        tries[order.cell.name] += 1
        running[task.remote(order.cell, order.workers, PARCEL_EVERY_S, shipped[order.scenario], begun)] = order

    try:
        for order in orders:
            submit(order)
        while running:
            ready, _ = ray.wait(list(running), num_returns=1)
            order = running[ready[0]]
            try:
                message, files = ray.get(next(ready[0]))
            except (ray.exceptions.RayError, StopIteration) as error:
                del running[ready[0]]
                lost = SimulationError(f"its node died ({type(error).__name__})")
                if tries[order.cell.name] == TRIES:
                    yield Event(order.cell.name, "failed", error=lost)
                else:
                    submit(order)
                    yield Event(order.cell.name, "lost", error=lost)
                continue
            if files is not None:
                parcel.unpack_run(files, order.folder, order.log, order.scenario)
            if isinstance(message, CellProgress):
                yield Event(order.cell.name, "progress", message)
                continue
            del running[ready[0]]
            yield Event(order.cell.name, "done" if message is None else "failed", error=message)
    finally:
        for task in running:
            ray.cancel(task, force=True)
        ray.shutdown()


def _connect(address: str | None, workers: int) -> Any:  # noqa: ANN401 - a module
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    try:
        import ray  # noqa: PLC0415 - an extra, and slow to import
    except ImportError:
        raise missing_extra("ray", "ray") from None
    _check_address(address)
    board = None if address else False
    try:
        ray.init(address=address, include_dashboard=board, log_to_driver=False, logging_level=logging.ERROR)
    except (ConnectionError, ValueError, RuntimeError) as error:
        raise InputError(f"--address {address}: no Ray cluster can be reached there: {error}") from None
    nodes = ray.nodes()  # type: ignore[no-untyped-call]
    cores = max((node["Resources"].get("CPU", 0.0) for node in nodes if node["Alive"]), default=0.0)
    if cores < workers:
        ray.shutdown()
        raise InputError(f"--workers {workers}: no node of the cluster has this many cores; give at most {cores:g}")
    return ray


def _check_address(address: str | None) -> None:
    """Check that a server listens at an address, because Ray itself retries for minutes."""
    if address in {None, "auto", "local"}:
        return
    host, _, port = str(address).rpartition(":")
    if not host or not port.isdecimal():
        raise InputError(f"--address {address}: not an address; give HOST:PORT or auto")
    try:
        socket.create_connection((host, int(port)), timeout=10.0).close()
    except OSError as error:
        raise InputError(f"--address {address}: no Ray cluster can be reached there: {error}") from None


def drive(
    task: Cell, workers: int, every_s: float, scenario: dict[str, bytes], begun: bytes | None
) -> Iterator[Message]:
    """Run a cell on a node in a temporary folder; yield messages, at intervals together with the run folder."""
    with temporary.folder("relid_sumo-cell-") as scratch:
        home = Path(scratch)
        parcel.unpack_scenario(scenario, home / "scenario")
        if begun is not None:
            parcel.unpack_run(begun, home / "run", home / "log", home / "scenario")
        share = free_memory_mib() * workers / (os.cpu_count() or 1)
        child = cell.start(Order(task, home / "scenario", home / "run", home / "log", workers, share))
        sent = time.monotonic()
        try:
            while True:
                message = cell.receive(child)
                over = not isinstance(message, CellProgress)
                due = over or time.monotonic() - sent >= every_s
                yield message, parcel.pack_run(home / "run", home / "log") if due else None
                sent = time.monotonic() if due else sent
                if over:
                    return
        finally:
            child.stop(at_once=True)
