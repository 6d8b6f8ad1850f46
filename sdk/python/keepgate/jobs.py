"""Work that outlives a request: kept on disk, run one of a kind and key at a time, tried again. A plugin runs
the kinds that its description names."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal

from wit_world.imports import jobs

from ._body import Body, _to_bytes, take
from ._environment import to_datetime, to_nanoseconds
from ._failure import asking
from ._http import Principal, to_principal

WhenBusy = Literal["queue", "join", "join-queued", "refuse"]
State = Literal["queued", "running", "succeeded", "failed", "cancelled"]


@dataclass(frozen=True)
class Job:
    """A job in its current state."""

    id: str
    kind: str
    #: The key. Jobs of the same kind and key run one after another.
    key: str
    #: What started it.
    origin: str
    #: The user whose request started it, and whose rules it follows.
    principal: Principal | None
    input: bytes
    state: State
    #: The number of the attempt, from 1; 0 before the first.
    attempt: int
    #: The maximum number of attempts.
    attempts: int
    #: No attempt begins before this time.
    next: datetime | None
    #: How far it has come, in whatever unit, and of how much; mostly bytes.
    done: int
    total: int | None
    #: One or two words for operators.
    phase: str
    created: datetime
    started: datetime | None
    ended: datetime | None
    #: Why the job failed or waits.
    message: str
    output: bytes


def start(
    kind: str,
    input: bytes | str = b"",
    *,
    key: str = "",
    attempts: int = 1,
    when_busy: WhenBusy = "queue",
    not_before: datetime | None = None,
    backoff: timedelta | None = None,
    finally_: str | None = None,
) -> str:
    """Starts a job; durable when it returns its id. `join-queued` joins only one whose first attempt has not
    begun. `backoff` is the pause before the second attempt, doubled for each further one. `finally_` is a
    kind of job that is started once this one has ended, however it did, with its id as input."""
    options = _options(key, attempts, when_busy, not_before, backoff, finally_)
    with asking():
        return jobs.start(kind, _to_bytes(input), options)


def start_on_mismatch(
    data: Body | bytes | str,
    kind: str,
    input: bytes | str = b"",
    *,
    key: str = "",
    attempts: int = 1,
    when_busy: WhenBusy = "queue",
    not_before: datetime | None = None,
    backoff: timedelta | None = None,
    finally_: str | None = None,
) -> Body:
    """The same body. If its bytes are not what `pipes.verified` or `pipes.checked` expects, the host starts
    this job when it notices, usually after the call."""
    handle = take(data)
    options = _options(key, attempts, when_busy, not_before, backoff, finally_)
    with asking():
        return Body(jobs.start_on_mismatch(handle, kind, _to_bytes(input), options))


def _options(
    key: str,
    attempts: int,
    when_busy: WhenBusy,
    not_before: datetime | None,
    backoff: timedelta | None,
    finally_: str | None,
) -> jobs.Options:
    return jobs.Options(
        key,
        attempts,
        jobs.WhenBusy[when_busy.upper().replace("-", "_")],
        None if not_before is None else to_nanoseconds(not_before),
        None if backoff is None else backoff // timedelta(milliseconds=1),
        finally_,
    )


def get(id: str) -> Job:
    """The job in its current state. Raises `NotFound`, also for another mount's job."""
    with asking():
        return from_host(jobs.get(id))


def wait(id: str, leaves: State, milliseconds: int) -> Job:
    """Waits until a job leaves a state, or this many milliseconds have passed."""
    with asking():
        return from_host(jobs.wait(id, jobs.State[leaves.upper()], milliseconds))


def list(kind: str, most: int = 100) -> list[Job]:
    """The mount's jobs of a kind that are still kept, newest first."""
    with asking():
        return [from_host(job) for job in jobs.list(kind, most)]


def cancel(id: str) -> bool:
    """Cancels a job that is queued or running. Returns false if it has ended already."""
    with asking():
        return jobs.cancel(id)


def withdraw(id: str) -> bool:
    """Cancels a job that has not begun. Returns false if it has."""
    with asking():
        return jobs.withdraw(id)


def report(done: int, total: int | None = None, phase: str = "") -> None:
    """Reports the progress of the running job. Raises `Invalid` outside of one."""
    with asking():
        jobs.report(jobs.Progress(done, total, phase))


def from_host(job: jobs.Job) -> Job:
    """The host's job as ours."""
    return Job(
        id=job.id,
        kind=job.kind,
        key=job.key,
        origin=job.origin,
        principal=to_principal(job.principal),
        input=job.input,
        state=job.state.name.lower(),  # type: ignore[arg-type]
        attempt=job.attempt,
        attempts=job.attempts,
        next=None if job.next is None else to_datetime(job.next),
        done=job.progress.done,
        total=job.progress.total,
        phase=job.progress.phase,
        created=to_datetime(job.created),
        started=None if job.started is None else to_datetime(job.started),
        ended=None if job.ended is None else to_datetime(job.ended),
        message=job.message,
        output=job.output,
    )
