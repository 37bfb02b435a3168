"""Run cells as processes of this machine, as many at once as its cores and memory allow."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Generator, Sequence
from dataclasses import replace
from multiprocessing.connection import Connection, wait

from relid_sumo.base.process import Child, free_memory_mib
from relid_sumo.batch import cell
from relid_sumo.batch.cell import CellProgress, Order
from relid_sumo.batch.events import Event

LEARNER_MIB, SIMULATION_MIB = (
    400.0,
    400.0,
)  # memory of a cell's learner and of each simulation process (docs/scaling.md)


def room(cells: int, workers: int | None = None) -> tuple[int, int]:
    """Return the number of cells that run at once, and the number of simulation processes of each.

    A cell with one simulation process uses one core: it either simulates or learns. More processes per cell are only
    useful if there are more cores than cells.
    """
    cores = len(os.sched_getaffinity(0))
    each = workers or max(1, cores // max(1, cells))
    by_memory = free_memory_mib() // (LEARNER_MIB + each * SIMULATION_MIB)
    return max(1, min(cores // each, int(by_memory), cells)), each


def run(orders: Sequence[Order], slots: int) -> Generator[Event]:
    """Run orders, `slots` at a time. Closing the iterator ends the running cells."""
    waiting = deque(orders)
    share = free_memory_mib() / slots
    running: dict[Connection, tuple[Order, Child]] = {}
    try:
        while waiting or running:
            while waiting and len(running) < slots:
                order = waiting.popleft()
                child = cell.start(replace(order, memory_mib=share))
                running[child.pipe] = order, child
            for pipe in wait(list(running)):
                assert isinstance(pipe, Connection)
                order, child = running[pipe]
                message = cell.receive(child)
                if isinstance(message, CellProgress):
                    yield Event(order.cell.name, "progress", message)
                    continue
                del running[pipe]
                child.stop()
                yield Event(order.cell.name, "done" if message is None else "failed", error=message)
    finally:
        for _, child in running.values():
            child.stop(at_once=True)
