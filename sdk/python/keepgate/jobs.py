"""Work that outlives a request: kept on disk, run one of a kind and key at a time, retried. A plugin
runs the kinds that its method `jobs` names."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from wit_world.imports import jobs

from ._body import _to_bytes
from ._environment import to_datetime
from ._failure import asking

State = Literal["queued", "running", "succeeded", "failed", "cancelled"]


@dataclass(frozen=True)
class Job:
    """A job as it is now."""

    id: str
    kind: str
    #: Jobs of the same kind and key run one after another.
    key: str
    #: What started it.
    origin: str
    input: bytes
    state: State
    #: From 1; 0 while it waits for its first.
    attempt: int
    created: datetime
    started: datetime | None
    ended: datetime | None
    #: Why it failed, or waits.
    message: str
    output: bytes


def start(
    kind: str,
    input: bytes | str = b"",
    *,
    key: str = "",
    attempts: int = 1,
    when_busy: Literal["queue", "join", "refuse"] = "queue",
) -> str:
    """Starts a job; durable when it returns its id."""
    options = jobs.Options(key, attempts, jobs.WhenBusy[when_busy.upper()])
    with asking():
        return jobs.start(kind, _to_bytes(input), options)


def get(id: str) -> Job:
    """Raises `NotFound`, also for another mount's job."""
    with asking():
        return from_host(jobs.get(id))


def wait(id: str, leaves: State, milliseconds: int) -> Job:
    """Waits until a job leaves a state or so many milliseconds have gone."""
    with asking():
        return from_host(jobs.wait(id, jobs.State[leaves.upper()], milliseconds))


def list(kind: str, most: int = 100) -> list[Job]:
    """The mount's jobs of a kind that are still kept, newest first."""
    with asking():
        return [from_host(job) for job in jobs.list(kind, most)]


def cancel(id: str) -> bool:
    """Ends a job that is queued or runs. False where it had ended before."""
    with asking():
        return jobs.cancel(id)


def withdraw(id: str) -> bool:
    """Ends a job only where it has not begun. False where it had."""
    with asking():
        return jobs.withdraw(id)


def report(done: int, total: int | None = None, phase: str = "") -> None:
    """Tells how far the job that runs has come; elsewhere raises `Invalid`."""
    with asking():
        jobs.report(jobs.Progress(done, total, phase))


def from_host(job: jobs.Job) -> Job:
    """The host's job as ours."""
    return Job(
        id=job.id,
        kind=job.kind,
        key=job.key,
        origin=job.origin,
        input=job.input,
        state=job.state.name.lower(),  # type: ignore[arg-type]
        attempt=job.attempt,
        created=to_datetime(job.created),
        started=None if job.started is None else to_datetime(job.started),
        ended=None if job.ended is None else to_datetime(job.ended),
        message=job.message,
        output=job.output,
    )
