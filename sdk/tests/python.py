"""Run by `cargo test -p keepgate-sdk`: the parts of the Python SDK that need no host, and an API over jobs whose host is
a stub."""

import importlib
import importlib.util
import json
import pathlib
import sys
import tempfile
import types
from datetime import datetime, timedelta, timezone
from unittest import mock

FOLDER = pathlib.Path(__file__).parent

# What componentize-py makes of the contract is not there: whatever is imported from it is a stub.
for name in ["", ".exports", ".imports"]:
    sys.modules[f"wit_world{name}"] = mock.MagicMock()
sys.modules["wit_world.imports.etcd"] = mock.MagicMock()
err = types.ModuleType("componentize_py_types")
err.Err = type("Err", (Exception,), {})
sys.modules["componentize_py_types"] = err
sys.path.insert(0, str(FOLDER.parent / "python"))
sys.dont_write_bytecode = True

from keepgate import Fields, Invalid, Page, Refused, _late, job_api, jobs, link, retention  # noqa: E402


def time(text):
    return datetime.fromisoformat(text.replace("Z", "+00:00"))


def fails(kind, call):
    try:
        call()
    except kind as error:
        return error
    raise AssertionError("it did not fail")


for case in json.loads((FOLDER / "retention.json").read_text()):
    within = case["within_seconds"]
    policy = retention.Policy(**case["policy"], within=within and timedelta(seconds=within))
    gone = policy.expired(
        range(len(case["items"])),
        time(case["now"]),
        time=lambda index: time(case["items"][index]),
        is_spared=lambda index: index in case["spared"],
    )
    assert gone == case["expired"], case

times = [
    "2026-03-01T12:05:01Z", "2026-02-01T00:00:00Z", "2030-01-01T00:00:00Z", "2026-03-01T12:05:00Z", "2026-01-01T00:00:00Z",
]
noon = time("2026-03-01T12:00:00Z")
assert retention.from_the_future(times, noon, time=time) == [times[0], times[2]]
assert retention.newest_last(times, noon, time=time) == [times[index] for index in [0, 2, 4, 1, 3]]

for text, seconds in [("60s", 60), ("1m30s", 90), ("1h 30m", 5400), ("1.5s", 1.5), ("7days", 604800)]:
    assert retention.parse_duration(text) == timedelta(seconds=seconds), text
for text in ["", "soon", "5", "0s", "-1s", "1 fortnight"]:
    fails(ValueError, lambda: retention.parse_duration(text))


class Request:
    def __init__(self, query=(), headers=(), path=("files",)):
        self.query, self.headers, self.path = Fields([*query]), Fields([*headers]), path
        self.trailing_slash = False

    def url(self, *segments):
        return "http://localhost/" + "/".join(segments)


assert Page.of(Request(), 3, 5) == Page(3, None)
assert Page.of(Request([("limit", "5"), ("after", "a")]), 3, 5) == Page(5, "a")
for limit in ["0", "6", "-1", "many", ""]:
    fails(Invalid, lambda: Page.of(Request([("limit", limit)]), 3, 5))
items, following = Page(2, None).fill(["a", "b & c", "d"], str)
assert (items, following) == (["a", "b & c"], "b & c")
expected = '<http://localhost/files?kind=x&after=b+%26+c>; rel="next"'
assert link(Request([("kind", "x"), ("after", "0")]), following) == {"link": expected}
assert Page(3, None).fill(["a", "b", "c"], str)[1] is None

now = datetime(2026, 1, 31, 23, 59, 58, 250_000, tzinfo=timezone.utc)


def job(state, **more):
    known = dict(
        id="1", kind="export", key="", origin="test", principal=None, input=b"", state=state, attempt=1,
        attempts=1, next=None, done=3, total=None, phase="exporting", created=now, started=now,
        ended=None, message="", output=b"",
    )
    return jobs.Job(**{**known, **more})


asked = Request(headers=[("prefer", "handling=lenient, Respond-Async; x=y")])
reply = job_api.accepted(asked, ["exports", "1"], {"id": "1"})
headers = dict(reply.headers)
assert (reply.status, headers["location"]) == (202, "http://localhost/exports/1")
assert headers["preference-applied"] == "respond-async"
assert not job_api.prefers_async(Request(headers=[("prefer", "wait=5")]))


def shown(job):
    return json.loads(job_api.status(job, lambda why: {"error": why}).content)


assert shown(job("running"))["created"] == "2026-01-31T23:59:58.250Z"
assert "result" not in shown(job("running")) and shown(job("running"))["done"] == 3
assert shown(job("succeeded", output=b'{"size":3}'))["result"] == {"size": 3}
assert shown(job("succeeded", output=b"text"))["result"] == {"error": ""}
assert shown(job("cancelled"))["result"] == {"error": "the job was cancelled"}
states = iter([job("queued"), job("running"), job("succeeded", output=b"1")])
with mock.patch.object(jobs, "wait", lambda *_: next(states)), mock.patch.object(
    jobs, "withdraw", lambda _: False
):
    assert job_api.wait("1", timedelta(seconds=1)).output == b"1"
with mock.patch.object(jobs, "wait", lambda *_: job("queued")), mock.patch.object(
    jobs, "withdraw", lambda _: True
):
    assert job_api.wait("1", timedelta(seconds=1)) is None
with mock.patch.object(jobs, "cancel", lambda _: False):
    assert fails(Refused, lambda: job_api.cancel(job("failed"))).status == 409

# Imports within functions, and which of them may fail.
with tempfile.TemporaryDirectory() as folder:
    root = pathlib.Path(folder)
    (root / "kept_package").mkdir()
    (root / "kept_package/__init__.py").write_text("")
    (root / "kept_package/part.py").write_text(
        """import top
def one():
    import first, second.part
    if one:
        from third import a as b, c
    try:
        import fourth
    except ImportError:
        from . import sibling
    with contextlib.suppress(ImportError):
        import fifth
    def inner():
        from ..above import d
class Plugin:
    def method(self):
        try:
            import sixth
        finally:
            pass
"""
    )
    (root / "kept_alone.py").write_text("VALUE = __name__, __file__")
    module = types.ModuleType("kept_package.part")
    module.__file__, module.__package__ = str(root / "kept_package/part.py"), "outer.kept_package"
    named = [(line, *rest) for line, *rest in _late._named(module)]
    assert named == [
        (3, "first", [], False),
        (3, "second.part", [], False),
        (5, "third", ["a", "c"], False),
        (7, "fourth", [], True),
        (9, "outer.kept_package", ["sibling"], True),
        (11, "fifth", [], True),
        (13, "outer.above", ["d"], False),
        (17, "sixth", [], False),
    ], named
    kept = _late._Kept()
    kept.add([folder])
sys.meta_path.append(kept)
assert not root.exists()
assert importlib.import_module("kept_alone").VALUE == ("kept_alone", str(root / "kept_alone.py"))
assert importlib.util.find_spec("kept_package.part").loader is kept
assert importlib.import_module("kept_package").__path__ == [str(root / "kept_package")]
missing = fails(ModuleNotFoundError, lambda: importlib.import_module("kept_package.nothing"))
assert _late.advice(missing).startswith("; import kept_package.nothing at the top of plugin.py")
assert _late.advice(fails(ImportError, lambda: exec("from json import nothing"))) == ""
