"""Faults of plugins in Python, and what the SDK offers beyond what the template uses. Each path is one of them;
`faults.js` has the same ones, except for imports, and `tests/e2e/languages` requests them."""

import importlib
import logging
import random as chances
import time
from datetime import datetime, timedelta

import keepgate
from keepgate import (
    Description, Metric, NotFound, Piece, Plugin, Reply, Request, Store, export, jobs, pipes, secrets,
    topics, turns,
)


def ended(id: str) -> jobs.Job:
    job = jobs.get(id)
    while job.state in ("queued", "running"):
        job = jobs.wait(id, job.state, 10_000)
    return job


class Faults(Plugin):
    description = Description(
        name="faults",
        version="0.1.0",
        stores=["main"],
        jobs=["count", "tidy"],
        metrics=[
            Metric("faults_said_total", "Times that something was said.", ["what"]),
            Metric("faults_level", "What was said last.", ["what"], kind="gauge"),
        ],
    )

    def check_settings(self, settings: dict) -> None:
        if "bug" in settings:
            settings["bug"].nothing()

    def handle(self, request: Request, settings: dict) -> Reply:
        name = request.path[0].replace("-", "_") if request.path else ""
        act = getattr(self, f"do_{name}", None)
        if act is None:
            raise NotFound
        return act(request)

    def do_hello(self, request: Request) -> Reply:
        return Reply.text("hello")

    def do_bug(self, request: Request) -> Reply:
        return Reply.text(None.nothing)

    def do_thrown(self, request: Request) -> Reply:
        raise RuntimeError("a text")

    def do_nothing(self, request: Request) -> Reply:
        return None

    def do_failure(self, request: Request) -> Reply:
        name = "".join(word.title() for word in request.query.get("tag").split("-"))
        raise getattr(keepgate, name)(request.query.get("detail"))

    def do_refused(self, request: Request) -> Reply:
        later = request.query.get("later")
        raise keepgate.Refused(
            int(request.query.get("status")),
            "some_code",
            "some reason",
            retry_after=int(later) if later else None,
        )

    def do_flood(self, request: Request) -> Reply:
        kept = []
        while True:
            kept.append(bytearray(b"1" * (1 << 20)))

    def do_loop(self, request: Request) -> Reply:
        while True:
            pass

    def do_recurse(self, request: Request) -> Reply:
        def deeper() -> int:
            return deeper() + 1

        return Reply.text(str(deeper()))

    def do_stream(self, request: Request) -> Reply:
        return Reply(200, content=(part.encode() for part in ("one ", "two ", "three")))

    def do_broken_stream(self, request: Request) -> Reply:
        def parts():
            yield b"one "
            raise RuntimeError("in the middle")

        return Reply(200, content=parts())

    def do_text(self, request: Request) -> Reply:
        try:
            return Reply.text(request.body.bytes().decode())
        except UnicodeDecodeError:
            raise keepgate.Invalid("the body is not UTF-8") from None

    def do_json(self, request: Request) -> Reply:
        return Reply.json(request.json())

    def do_length(self, request: Request) -> Reply:
        return Reply.text(str(sum(len(chunk) for chunk in request.body)))

    def do_twice(self, request: Request) -> Reply:
        store = Store()
        store.put("once", request.body)
        store.put("twice", request.body)
        return Reply(204)

    def do_left(self, request: Request) -> Reply:
        next(Store().list(recursive=False), None)
        return Reply.text(f"{request.method} {request.body.length}")

    def do_packed(self, request: Request) -> Reply:
        store = Store()
        meter = pipes.Meter(request.body)
        stored = store.put("packed.gz", pipes.gzip(meter.body), metadata={"origin": "test"})
        found = store.get("packed.gz", suffix=4)
        unpacked = pipes.spool(pipes.gunzip(store.get("packed.gz").body))
        size, sha256 = meter.sum()
        return Reply.json({
            "size": stored.size,
            "sum": {"size": size, "sha256": sha256},
            "unpacked": unpacked.sha256,
            "tail": [*found.body.bytes()],
            "offset": found.offset,
            "origin": store.head("packed.gz").metadata.get("origin"),
        })

    def do_held(self, request: Request) -> Reply:
        data = request.body.bytes()
        abc = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"

        def attempt(act) -> object:
            try:
                return act()
            except keepgate.Failure as failure:
                name = type(failure).__name__
                return "".join(f"-{c.lower()}" if c.isupper() else c for c in name).lstrip("-")

        def read(given: keepgate.Body) -> object:
            return attempt(lambda: given.bytes().decode())

        def took(name: str, wait: timedelta) -> object:
            with turns.turn(name, wait):
                return "free"

        with turns.turn("held"):
            Reply(104, {"location": "/later"}).send_interim()
            looked = jobs.start_on_mismatch(
                pipes.verified("abd", abc), "count", "1234", key="mismatch"
            )
            checksum = pipes.Checksum(data)
            unknown, passed, known = checksum.xxh3(), read(checksum.body), checksum.xxh3()
            return Reply.json({
                "checked": [
                    unknown,
                    passed,
                    read(pipes.checked(data, known)),
                    read(pipes.checked("abd", known)),
                ],
                "verified": [read(pipes.verified(data, abc)), read(looked)],
                "limit": [read(pipes.limit(data, 3)), read(pipes.limit(data, 2))],
                "exactly": [read(pipes.exactly(data, length)) for length in (3, 2, 4)],
                "joined": read(pipes.join([data, "", "d"])),
                "turn": [
                    attempt(lambda: took("held", timedelta(milliseconds=1))),
                    took("other", timedelta(seconds=1)),
                ],
                "interim": attempt(lambda: Reply(200).send_interim()),
            })

    def do_news(self, request: Request) -> Reply:
        def attempt(act) -> object:
            try:
                return act()
            except keepgate.Failure as failure:
                names = {keepgate.Invalid: "invalid", keepgate.TooLarge: "too-large"}
                return names[type(failure)]

        with topics.Subscription("news") as news:

            def next(wait: int) -> object:
                came = news.next(timedelta(milliseconds=wait))
                return [came.decode()] if isinstance(came, bytes) else came

            told = [
                topics.publish("other", "x"),
                topics.publish("news", "one"),
                topics.publish("news", b"2"),
            ]
            came = [next(1000), next(0), next(1)]
            for number in range(65):
                topics.publish("news", str(number))
            slow = [next(0), next(0)]
        return Reply.json({
            "told": told,
            "came": came,
            "slow": slow,
            "closed": topics.publish("news", "x"),
            "failures": [
                attempt(lambda: topics.Subscription("")),
                attempt(lambda: topics.publish("news", "x" * 65537)),
            ],
        })

    def do_looked(self, request: Request) -> Reply:
        return Reply.json([job.state for job in jobs.list("count") if job.key == "mismatch"])

    def do_listed(self, request: Request) -> Reply:
        store = Store()
        store.put("b/two", "22")
        store.put("a", "1")
        store.put("a", "111", matches=store.head("a").etag)
        names = [[found.key, found.size] for found in store.list()]
        top = [[found.key, found.size] for found in store.list(recursive=False)]
        return Reply.json({"all": names, "top": top, "gone": store.delete("a")})

    def do_changed(self, request: Request) -> Reply:
        store = Store()

        def put(key: str, data: str, **options: object) -> list:
            stored = store.put(key, data, **options)
            return [stored.change, stored.replaced, stored.size]

        def after(place: str) -> list:
            return [found.key for found in store.list("f", recursive=False, after=place)]

        def attempt(act, *given, **options) -> object:
            try:
                return act(*given, **options)
            except keepgate.Failure as failure:
                name = type(failure).__name__
                tag = "".join(f"-{c.lower()}" if c.isupper() else c for c in name).lstrip("-")
                return [tag, str(failure)]

        changes = [put("f/a", "12345"), put("f/a", "123")]
        changes.append(put("f/a", "123", condition="absent-or-identical"))
        put("f/b/c", "abcdef")
        pieces = ["f/a", Piece("f/b/c", offset=1, length=2), Piece("f/b/c", suffix=1)]
        joined = store.concat("f/d", pieces, content_type="text/plain", tags={"a": "b"})
        entries = list(store.list("f", recursive=False))
        said = {
            "changes": changes,
            "joined": [joined.change, joined.size, joined.content_type, joined.tags.get("a")],
            "text": store.get("f/d").body.bytes().decode(),
            "etags": [
                found.etag == ("" if found.folder else store.head(found.key).etag)
                for found in entries
            ],
            "after": [after("f/a"), after("f/b/"), after("f/d")],
            "mismatch": attempt(store.put, "f/e", "x", sha256="0" * 64),
            "stale": attempt(store.delete, "f/a", matches="another"),
            "removed": store.delete("f/a", matches=entries[0].etag),
            "tagged": attempt(store.put, "f/e", "x", metadata={"Upper": "x"})[0],
        }
        moved = store.rename("f/b/c", "f/g", condition="absent")
        over = store.rename("f/g", "f/d", matches=store.head("f/d").etag)
        said["moved"] = [moved.change, moved.key, moved.size, over.change, over.replaced]
        said["unmoved"] = attempt(store.rename, "f/g", "f/h")[0]
        later = keepgate.now() + timedelta(hours=1)
        store.put("f/e", "x", expires=later)
        said["expires"] = [store.heads(["f/e"])[0] is not None]
        store.put("f/e", "x", expires=keepgate.now())
        said["expires"] += [
            store.heads(["f/e"])[0] is not None,
            store.put("f/e", "x", condition="absent").change,
            store.delete("f/e"),
        ]
        store.delete("f/d")
        return Reply.json(said)

    def do_job(self, request: Request) -> Reply:
        id = jobs.start("count", request.body.bytes(), key="one")
        job = ended(id)
        return Reply.json({"state": job.state, "origin": job.origin, "output": job.output.decode()})

    def do_finally(self, request: Request) -> Reply:
        later = keepgate.now() + timedelta(seconds=3)
        options = {"key": "two", "attempts": 3, "when_busy": "join-queued", "not_before": later}
        pause = timedelta(milliseconds=10)
        id = jobs.start("count", b"12", backoff=pause, finally_="tidy", **options)
        joined = jobs.start("count", b"12", **options)
        waiting = jobs.get(id)
        late = ended(id).started >= later
        tidy = ended(jobs.list("tidy", 1)[0].id)
        return Reply.json({
            "joined": joined == id,
            "waiting": waiting.next >= later,
            "late": late,
            "attempts": waiting.attempts,
            "principal": waiting.principal and waiting.principal.name,
            "tidied": tidy.output.decode() == id,
        })

    def do_place(self, request: Request) -> Reply:
        asked = [request.target, request.address, bool(request.id)]
        return Reply.json([request.url("a b", "c"), *asked])

    def do_secrets(self, request: Request) -> Reply:
        message = request.body.bytes()
        mac = secrets.hmac_sha256("hook", message)
        sealed = secrets.seal(message, b"context")

        def attempt(act):
            try:
                return act()
            except keepgate.Failure as failure:
                names = {keepgate.Denied: "denied", keepgate.Invalid: "invalid", keepgate.TooLarge: "too-large"}
                return names[type(failure)]

        return Reply.json({
            "keys": secrets.keys(),
            "mac": [*mac],
            "verified": [
                secrets.verify_hmac_sha256("hook", message, mac),
                secrets.verify_hmac_sha256("hook", b"other", mac),
            ],
            "opened": secrets.open(sealed, b"context").decode(),
            "sealed": len(sealed),
            "differs": secrets.seal(message, b"context") != sealed,
            "failures": [
                attempt(lambda: secrets.hmac_sha256("none", message)),
                attempt(lambda: secrets.open(sealed, b"another")),
                attempt(lambda: secrets.seal(message, b"c" * 1025)),
            ],
        })

    def do_chance(self, request: Request) -> Reply:
        return Reply.json([chances.random(), keepgate.random(8).hex()])

    def do_clock(self, request: Request) -> Reply:
        milliseconds = int(keepgate.now().timestamp() * 1000)
        return Reply.json([milliseconds, int(time.time() * 1000), milliseconds])

    def do_said(self, request: Request) -> Reply:
        print("printed", {"a": 1})
        logging.warning("logged", extra={"fields": {"b": 2}})
        keepgate.count("faults_said_total", ["x"], 2)
        keepgate.set_gauge("faults_level", ["x"], 0.5)
        return Reply(204)

    def do_imports(self, request: Request) -> Reply:
        """What Python imports when it is first used, and what this function does."""
        import csv
        from xml.etree import ElementTree

        try:
            import no_such_module
        except ImportError:
            no_such_module = None
        return Reply.json({
            "strptime": datetime.strptime("2026-01-02", "%Y-%m-%d").isoformat(),
            "idna": "bücher.example".encode("idna").decode(),
            "punycode": "bücher".encode("punycode").decode(),
            "latin-1": [*"é".encode("latin-1")],
            "cp1252": [*"€".encode("cp1252")],
            "iso-8859-15": b"\xa4".decode("iso-8859-15"),
            "gb18030": "é".encode("gb18030").decode("gb18030"),
            "digits": len(str(10**3000 * 10**1000)),
            "by name": importlib.import_module("urllib.request").Request("http://a/b").host,
            "csv": next(csv.reader(["a,b"])),
            "xml": ElementTree.fromstring("<a><b>c</b></a>").find("./b[.='c']").text,
            "missing": no_such_module,
        })

    def do_missing(self, request: Request) -> Reply:
        return Reply.text(importlib.import_module(request.query.get("module")).__name__)

    def check_job(self, kind: str, input: bytes, settings: dict) -> str:
        if not input:
            raise ValueError("expected an input, found none")
        return "one"

    def run_job(self, job: jobs.Job, settings: dict) -> str:
        if job.kind == "tidy":
            return job.input
        jobs.report(len(job.input), phase="counting")
        return f"{len(job.input)} bytes"


Guest, JobRunner = export(Faults)
