"""Named archives in the mount's store `main`:

    GET    /        a JSON list: names, sizes in bytes
    PUT    /NAME    stores the body: 201, or 409 where another archive has that name
    GET    /NAME    the bytes, whole or a range; HEAD answers without them
    DELETE /NAME    removes it: 204

No byte of an archive enters the plugin: bodies are handles, and the host moves the bytes.
"""

import logging
import re

from keepgate import Description, Invalid, NotFound, Plugin, Reply, Request, Store, export

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")


class Archives(Plugin):
    description = Description(
        name="{{name}}",
        version="0.1.0",
        summary="Named archives: PUT, GET, DELETE and a list",
        stores=["main"],
    )

    def check_settings(self, settings: dict) -> None:
        """`settings` is what the operator writes under [mount.settings]."""
        for key in settings.keys() - {"replace"}:
            raise ValueError(f"unknown setting {key!r}; the plugin has replace")
        if not isinstance(settings.get("replace", False), bool):
            raise ValueError("replace is true or false")

    def handle(self, request: Request, settings: dict) -> Reply:
        store = Store("main")
        match request.path:
            case [] | [""]:
                return self.at_top(store, request)
            case [name]:
                return self.at_archive(store, request, name, settings.get("replace", False))
        raise NotFound

    def at_top(self, store: Store, request: Request) -> Reply:
        if request.method not in ("GET", "HEAD"):
            return Reply.method_not_allowed("GET", "HEAD")
        return Reply.json([{"name": found.key, "size": found.size} for found in store.list()])

    def at_archive(self, store: Store, request: Request, name: str, replace: bool) -> Reply:
        if not NAME.fullmatch(name):
            raise Invalid("a name has up to 128 letters, digits, dots, dashes and underscores")
        match request.method:
            case "GET" | "HEAD":
                return Reply.blob(store, name, request)
            case "PUT":
                # Uploading the same bytes again succeeds: a client whose reply got lost sends them again.
                stored = store.put(
                    name,
                    request.body,
                    condition="always" if replace else "absent-or-identical",
                    sha256=request.headers.get("x-sha256"),
                )
                fields = {"name": name, "size": stored.size}
                logging.info("archive stored", extra={"fields": fields})
                return Reply.json(fields, 201, {"etag": f'"{stored.etag}"'})
            case "DELETE":
                if store.delete(name) is None:
                    raise NotFound
                return Reply(204)
        return Reply.method_not_allowed("GET", "HEAD", "PUT", "DELETE")


Guest, JobRunner = export(Archives)
