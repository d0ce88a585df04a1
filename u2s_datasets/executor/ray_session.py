"""A Ray to work with, and how it is set for a run. With `ray_runner` the only file that imports ray."""

from __future__ import annotations

import contextlib
import logging
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from u2s_datasets.errors import SetupError, missing_extra
from u2s_datasets.executor.ordering import importable

os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # Ray would tell its makers about this machine
os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")  # what it recovers from is no news on a run's console
os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")  # a stage without a GPU is not hidden from it

try:
    import ray
    from ray.data import DataContext
except ImportError as error:
    raise missing_extra("ray", "ray") from error


@contextlib.contextmanager
def connected(address: str | None = None) -> Iterator[None]:
    """A Ray to work with: the one this process is connected to, the one at `address`, or a new one on this machine.

    A new one listens on the loopback interface alone, has no dashboard, keeps its files, pictures among them, in a
    folder that only this user can read, and ends with this block.

    Raises:
        SetupError: no cluster answers at the address, or this process is connected to another one.
    """
    if ray.is_initialized():
        there = ray.get_runtime_context().gcs_address
        if address not in (None, "auto", there):
            raise SetupError(f"this process is connected to the Ray at {there}, not {address!r}; end that one first")
        yield
        return
    options: dict[str, Any] = {"address": address, "logging_level": "CRITICAL", "log_to_driver": False}
    with contextlib.ExitStack() as ending:
        if address is None:
            folder = ending.enter_context(_session_folder())
            options |= {"address": "local", "include_dashboard": False, "_node_ip_address": "127.0.0.1"}
            options["_temp_dir"] = folder
        yield from _started(address, options)


@contextlib.contextmanager
def _session_folder() -> Iterator[str]:
    """Where a Ray of our own keeps sockets, logs and what it spills; a killed run leaves it, unreadable for others."""
    short = "/tmp" if Path("/tmp").is_dir() else None  # a socket's name may have a hundred characters
    folder = tempfile.mkdtemp(prefix="u2s-ray-", dir=short)
    try:
        yield str(Path(folder) / "r")  # Ray opens its own folder to everybody; nobody gets to it through this one
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _started(address: str | None, options: Mapping[str, Any]) -> Iterator[None]:
    try:
        with importable(), _on_loopback(address is None), _without_greeting():
            ray.init(**options)
    except (OSError, ValueError, RuntimeError) as error:
        raise SetupError(f"no Ray cluster can be used at {address!r}: {error}; start one with `ray start`") from error
    try:
        if address is None and (there := ray.nodes()[0]["NodeManagerAddress"]) != "127.0.0.1":
            raise SetupError(f"Ray would listen on {there}; start a cluster yourself and say --ray-address")
        yield
    finally:
        ray.shutdown()


@contextlib.contextmanager
def _on_loopback(wanted: bool) -> Iterator[None]:
    """A Ray that starts here listens on 127.0.0.1, as by itself on macOS; there is no public option for it."""
    from ray._private import ray_constants

    before = ray_constants.ENABLE_RAY_CLUSTER
    ray_constants.ENABLE_RAY_CLUSTER = before and not wanted
    try:
        yield
    finally:
        ray_constants.ENABLE_RAY_CLUSTER = before


@contextlib.contextmanager
def _without_greeting() -> Iterator[None]:
    """Ray's native code says on standard error that it was told to say nothing; all else that it says, it may."""
    try:
        before = os.dup(2)
    except OSError:  # there is no standard error
        yield
        return
    with os.fdopen(before, "wb", buffering=0) as console, tempfile.TemporaryFile() as said:
        os.dup2(said.fileno(), 2)
        try:
            yield
        finally:
            os.dup2(before, 2)
            said.seek(0)
            console.writelines(line for line in said if b"RAY_BACKEND_LOG_LEVEL" not in line)


_CHANGED = ("max_errored_blocks", "target_max_block_size")  # by the run, as it goes


@contextlib.contextmanager
def quietly() -> Iterator[Any]:
    """Ray Data without its own progress bars and greetings: the run has one bar. At the end all is set as before."""
    context = DataContext.get_current()
    wanted = {
        "enable_progress_bars": False,
        "print_on_execution_start": False,
        "memory_usage_poll_interval_s": None,  # a thread in every worker that nobody reads
    }
    before = {name: getattr(context, name) for name in (*wanted, *_CHANGED)}
    loggers = [logging.getLogger(name) for name in ("ray", "ray.data")]
    levels = [logger.level for logger in loggers]
    for name, value in wanted.items():
        setattr(context, name, value)
    for logger in loggers:
        logger.setLevel(logging.CRITICAL)
    try:
        yield context
    finally:
        for name, value in before.items():
            setattr(context, name, value)
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
