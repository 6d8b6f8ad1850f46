"""An HTTP API for jobs: start one and wait, or reply with 202 at once; show its status; cancel it. The job does
the work, so a client that disconnects changes nothing."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

from . import jobs
from ._failure import NotFound, Refused
from ._http import Reply, Request

#: How long one call of the host waits before it is repeated, in milliseconds.
_ROUND = 600_000


def prefers_async(request: Request) -> bool:
    """Whether the client asks not to wait for the result: `Prefer: respond-async` (RFC 7240)."""
    values = ",".join(request.headers.all("prefer")).split(",")
    return "respond-async" in [value.partition(";")[0].strip().lower() for value in values]


def accepted(request: Request, path: list[str], body: object) -> Reply:
    """The reply 202 for a job that was started. `path` is the path of the job below the mount."""
    headers = {"location": request.url(*path)}
    if prefers_async(request):
        headers["preference-applied"] = "respond-async"
    return Reply.json(body, 202, headers)


def wait(id: str, turn: timedelta) -> jobs.Job | None:
    """Waits until a job begins, at most as long as `turn`, and then until it ends, however long that takes. A job
    that has not begun by then is withdrawn: None."""
    job = jobs.wait(id, "queued", turn // timedelta(milliseconds=1))
    if job.state == "queued" and jobs.withdraw(id):
        return None
    while job.state in ("queued", "running"):
        job = jobs.wait(id, job.state, _ROUND)
    return job


def find(id: str, kind: str, fits: Callable[[jobs.Job], bool] = lambda job: True) -> jobs.Job:
    """A job of this kind that fits; raises `NotFound` for all others, so that one part of a surface does not show the
    jobs of another."""
    job = jobs.get(id)
    if job.kind != kind or not fits(job):
        raise NotFound
    return job


def reason(job: jobs.Job) -> str:
    """Why a job failed, was cancelled, or waits for another attempt."""
    cancelled = job.state == "cancelled" and not job.message
    return "the job was cancelled" if cancelled else job.message


def status(job: jobs.Job, failed: Callable[[str], object]) -> Reply:
    """The document about a job. Once the job has ended, `result` is its output, or what `failed` makes of the reason
    if it has none that is JSON."""
    document: dict[str, Any] = {
        "job": job.id,
        "state": job.state,
        "origin": job.origin,
        "attempt": job.attempt,
        "phase": job.phase,
        "done": job.done,
        "total": job.total,
        "created": _rfc3339(job.created),
        "started": job.started and _rfc3339(job.started),
        "ended": job.ended and _rfc3339(job.ended),
    }
    if job.state not in ("queued", "running"):
        document["result"] = _output(job, failed)
    elif job.message:
        document["error"] = job.message
    return Reply.json(document, headers={"cache-control": "no-store"})


def cancel(job: jobs.Job) -> Reply:
    """Cancels a job and replies with 204. Raises a 409 if it has ended."""
    if not jobs.cancel(job.id):
        raise Refused(409, "", "the job has ended")
    return Reply(204)


def _output(job: jobs.Job, failed: Callable[[str], object]) -> object:
    if job.state == "succeeded":
        try:
            return json.loads(job.output)
        except ValueError:
            pass
    return failed(reason(job))


def _rfc3339(time: datetime) -> str:
    return time.isoformat(timespec="milliseconds").replace("+00:00", "Z")
