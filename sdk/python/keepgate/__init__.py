"""The Keepgate SDK for Python: the contract `keepgate:plugin@0.1.0` as classes, iterators and
exceptions.

The folder lies beside a plugin's `plugin.py` and is compiled into the component with it; it needs
nothing but what componentize-py brings. What plugins may use is named here, and in the modules
`pipes`, `etcd` and `jobs`; what begins with an underscore may change.
"""

from . import etcd, jobs, pipes
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
from ._plugin import Description, Metric, Plugin, export
from ._store import Download, Entry, Info, Piece, Store, Stored

__all__ = [
    "AlreadyExists", "Body", "Busy", "ChecksumMismatch", "Denied", "Description", "Download",
    "Entry", "Failure", "Fields", "Info", "Internal", "Invalid", "Metric", "NoSpace", "NotFound",
    "OutOfRange", "Piece", "Plugin", "PreconditionFailed", "Principal", "QuotaExceeded", "Refused",
    "Reply", "Request", "Store", "Stored", "TimedOut", "TooLarge", "Truncated", "Unavailable",
    "Unsupported", "count", "etcd", "export", "jobs", "now", "pipes", "random", "set_gauge",
]
