"""The Keepgate SDK for Python: the contract `keepgate:plugin@0.1.1` as classes, iterators and
exceptions.

The folder lies beside a plugin's `plugin.py` and is compiled into the component with it; it needs
nothing but what componentize-py brings. What plugins may use is named here, and in the modules
`pipes`, `etcd`, `jobs`, `records`, `upstreams`, `topics`, `turns`, `job_api`, `retention` and `secrets`; what begins
with an underscore may change.
"""

from . import etcd, job_api, jobs, pipes, records, retention, secrets, topics, turns, upstreams
from ._body import Body
from ._environment import count, now, random, set_gauge
from ._failure import (
    AlreadyExists,
    Busy,
    ChecksumMismatch,
    Denied,
    Failure,
    Internal,
    Invalid,
    NoSpace,
    NotFound,
    OutOfRange,
    PreconditionFailed,
    QuotaExceeded,
    Refused,
    TimedOut,
    TooLarge,
    Truncated,
    Unavailable,
    Unsupported,
)
from ._http import Fields, Principal, Reply, Request
from ._page import Page, link
from ._plugin import Description, Metric, Plugin, export
from ._store import Download, Entry, Info, Piece, Store, Stored

__all__ = [
    "AlreadyExists", "Body", "Busy", "ChecksumMismatch", "Denied", "Description", "Download",
    "Entry", "Failure", "Fields", "Info", "Internal", "Invalid", "Metric", "NoSpace", "NotFound",
    "OutOfRange", "Page", "Piece", "Plugin", "PreconditionFailed", "Principal", "QuotaExceeded",
    "Refused", "Reply", "Request", "Store", "Stored", "TimedOut", "TooLarge", "Truncated",
    "Unavailable", "Unsupported", "count", "etcd", "export", "job_api", "jobs", "link", "now",
    "pipes", "random", "records", "retention", "secrets", "set_gauge", "topics",
    "turns", "upstreams",
]
