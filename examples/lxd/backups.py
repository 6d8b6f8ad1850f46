#!/usr/bin/env python3
"""Backs up LXD's instances through Keepgate and restores one under another name.

    backups.py backup [INSTANCE ...]         waits until all are stored; without names, all that `lxc list` shows
    backups.py restore INSTANCE --as NAME    restores the newest backup, or the one that --backup names

It needs Python 3.9 or newer and nothing else. KEEPGATE is the address of the mount, such as
https://backup.example.org:8000; CERTIFICATE and KEY are the files of the client certificate, and CA is the file of the
gateway's certificate, unless a public authority has signed it. It exits with 1 if anything has failed.

A line for cron, at two o'clock:

    0 2 * * * root KEEPGATE=https://backup.example.org:8000 CA=... CERTIFICATE=... KEY=... /opt/backups.py backup

Keepgate can also make backups by itself, with [schedule.NAME] in its configuration. This script is for those who want
their own scheduler to know whether each backup was stored.
"""

import argparse
import json
import os
import ssl
import subprocess
import sys
from urllib.error import HTTPError, URLError
from urllib.parse import quote, urlencode
from urllib.request import HTTPSHandler, Request, build_opener


class Failed(Exception):
    """What the gateway or LXD says."""


def connect():
    """A function that asks the gateway and returns its answer."""
    url = os.environ.get("KEEPGATE", "").rstrip("/")
    if not url:
        raise Failed("set KEEPGATE to the address of the mount")
    context = ssl.create_default_context(cafile=os.environ.get("CA"))
    if "CERTIFICATE" in os.environ:
        context.load_cert_chain(os.environ["CERTIFICATE"], os.environ.get("KEY"))
    opener = build_opener(HTTPSHandler(context=context))

    def ask(method, path):
        try:
            with opener.open(Request(url + path, method=method)) as response:
                return json.load(response)
        except HTTPError as error:
            try:
                why = json.load(error)["error"]
            except (ValueError, KeyError, TypeError):
                why = f"the gateway answers {error.code}"
            raise Failed(why) from None
        except URLError as error:
            raise Failed(f"{url}: {error.reason}") from None

    return ask


def end(ask, started):
    """Waits for the end of an operation."""
    while True:
        operation = ask("GET", f"{started['operation']}/wait?timeout=300")["metadata"]
        if operation["status"] == "Success":
            return
        if operation["status"] in ("Failure", "Cancelled"):
            raise Failed(operation["err"] or operation["status"])


def backups(instance):
    return f"/1.0/instances/{quote(instance, safe='')}/backups"


def instances():
    listed = subprocess.run(["lxc", "list", "--format", "csv", "--columns", "n"], check=True, capture_output=True, text=True)
    return listed.stdout.split()


def backup(ask, names):
    """Starts all of them, so that the gateway can work on several, and then waits for each."""
    failed, started = False, []
    for name in names or instances():
        try:
            started.append((name, ask("POST", backups(name))))
        except Failed as why:
            print(f"{name}: {why}", file=sys.stderr)
            failed = True
    for name, answer in started:
        try:
            end(ask, answer)
            print(f"{name}: stored {answer['metadata']['name']}")
        except Failed as why:
            print(f"{name}: {why}", file=sys.stderr)
            failed = True
    return failed


def restore(ask, instance, name, chosen, stopped):
    if chosen is None:
        stored = ask("GET", backups(instance))["metadata"]
        if not stored:
            raise Failed(f"{instance} has no backup")
        chosen = max(stored, key=lambda info: info["created"])["name"]
    query = urlencode({"as": name, "start": "false" if stopped else "true"})
    end(ask, ask("POST", f"{backups(instance)}/{quote(chosen, safe='')}?{query}"))
    print(f"{name}: restored from {chosen}")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    backing_up = commands.add_parser("backup", help="backs up instances")
    backing_up.add_argument("instances", nargs="*", metavar="INSTANCE")
    restoring = commands.add_parser("restore", help="restores a backup under another name")
    restoring.add_argument("instance", metavar="INSTANCE")
    restoring.add_argument("--as", dest="name", required=True, metavar="NAME")
    restoring.add_argument("--backup", metavar="BACKUP", help="instead of the newest one")
    restoring.add_argument("--stopped", action="store_true", help="does not start it")
    arguments = parser.parse_args()
    try:
        ask = connect()
        if arguments.command == "backup":
            return backup(ask, arguments.instances)
        restore(ask, arguments.instance, arguments.name, arguments.backup, arguments.stopped)
    except (Failed, OSError, subprocess.CalledProcessError) as why:
        print(f"backups.py: {why}", file=sys.stderr)
        return True
    return False


if __name__ == "__main__":
    sys.exit(main())
