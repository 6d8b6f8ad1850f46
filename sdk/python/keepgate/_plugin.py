"""Plugins, and how they become the exports of a component."""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from componentize_py_types import Err
from wit_world.exports import guest
from wit_world.imports import environment, http
from wit_world.imports import jobs as host_jobs

from . import _environment, _late, jobs
from ._body import _to_bytes
from ._environment import to_pairs
from ._failure import Failure, Internal, Invalid, TimedOut, in_one_line, to_host
from ._http import Reply, Request, from_host

Settings = dict[str, Any]


@dataclass
class Metric:
    """A counter for `count`: a Prometheus name that ends in `_total`, a line of help, label names. Or a
    gauge for `set_gauge`."""

    name: str
    help: str
    labels: list[str] = field(default_factory=list)
    kind: Literal["counter", "gauge"] = "counter"


@dataclass
class Description:
    """A plugin's description of itself."""

    name: str
    version: str
    #: A summary for operators, on one line.
    summary: str = ""
    #: The path at which it is mounted unless the operator configures another one; `/NAME` by default.
    default_mount: str = ""
    #: Names of the stores that it opens; a mount must grant each.
    stores: list[str] = field(default_factory=list)
    #: Names of the clusters that it takes snapshots of; a mount must grant each, and for `*` at least one.
    clusters: list[str] = field(default_factory=list)
    #: Kinds of job that `run_job` runs.
    jobs: list[str] = field(default_factory=list)
    metrics: list[Metric] = field(default_factory=list)


class Plugin:
    """Derive from this, and hand the class to `export`. An instance is made once, when the component is
    made; what a method keeps in it is gone after the request."""

    description: Description

    def check_settings(self, settings: Settings) -> None:
        """Checks a mount's settings. Raises `ValueError`, which says what is wrong. Accepts everything by default."""

    def handle(self, request: Request, settings: Settings) -> Reply:
        """Handles a request."""
        raise NotImplementedError

    def refuse(self, failure: Failure) -> Reply | None:
        """The reply to a failure in this surface's own form. If there is none, which is the default, the host replies
        with the failure's status and message, in the form that `refusals.json` beside the sources declares, or in plain
        text. It uses that form for what it refuses itself, too. `Content-Range` and `Retry-After` are added."""
        return None

    def check_job(self, kind: str, input: bytes, settings: Settings) -> str:
        """The key of a job that a schedule or an operator starts: jobs of one kind and key run one
        after another. Raises `ValueError` with what is wrong with the input."""
        return ""

    def run_job(self, job: jobs.Job, settings: Settings) -> bytes | str:
        """Runs one attempt of a job to its end. The returned value is kept with the job."""
        raise NotImplementedError


def export(plugin: type[Plugin]) -> tuple[type, type]:
    """The component's exports, under the names that the contract has for them:

        Guest, JobRunner = export(MyPlugin)
    """
    ours = plugin()

    class Guest:
        def describe(self) -> guest.Description:
            said = ours.description
            return guest.Description(
                name=said.name,
                version=said.version,
                summary=said.summary,
                default_mount=said.default_mount or f"/{said.name}",
                stores=said.stores,
                clusters=said.clusters,
                jobs=said.jobs,
                metrics=[
                    guest.Metric(m.name, guest.MetricKind[m.kind.upper()], m.help, m.labels)
                    for m in said.metrics
                ],
            )

        def check_settings(self, settings: str) -> None:
            _environment.install()
            try:
                ours.check_settings(json.loads(settings))
            except Exception as error:
                raise Err(_in_words(error)) from None

        def handle(self, request: http.Request) -> http.Reply:
            _environment.install()
            try:
                reply = _answer(ours, from_host(request))
                if not isinstance(reply, Reply):
                    raise TypeError("handle() returned no Reply")
                return reply._to_host()
            except Exception as error:
                raise to_host(error) from None

    class JobRunner:
        def check(self, kind: str, input: bytes) -> str:
            _environment.install()
            try:
                _require(kind)
                return ours.check_job(kind, input, _settings())
            except Exception as error:
                raise Err(_in_words(error)) from None

        def run(self, job: host_jobs.Job) -> bytes:
            _environment.install()
            try:
                _require(job.kind)
                return _to_bytes(ours.run_job(jobs.from_host(job), _settings()))
            except Exception as error:
                raise to_host(error) from None

    def _require(kind: str) -> None:
        if kind not in ours.description.jobs:
            raise Invalid(f"this plugin runs no jobs of the kind {kind!r}")

    _late.keep()
    return Guest, JobRunner


def _answer(plugin: Plugin, request: Request) -> Reply:
    """A reply, or what the plugin makes of a failure in its surface's own form."""
    try:
        return plugin.handle(request, _settings())
    except Exception as error:
        failure = error if isinstance(error, Failure) else Internal(in_one_line(error))
        # Only the host knows whether the client was the one that did not send.
        reply = None if isinstance(failure, TimedOut) else plugin.refuse(failure)
        if reply is None:
            raise
        if isinstance(failure, Internal):
            environment.log(environment.Level.ERROR, str(failure), [])
        return replace(reply, headers=[*to_pairs(reply.headers), *failure.headers()])


def _settings() -> Settings:
    return json.loads(environment.settings())


def _in_words(error: Exception) -> str:
    is_meant = isinstance(error, (ValueError, Failure))
    return str(error) if is_meant else in_one_line(error)
