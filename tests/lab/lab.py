#!/usr/bin/env python3
"""Real routers on loopback addresses, for tests.

    lab.py up [PEER...]        starts them (all five kinds if none is named) and waits until they can be asked
    lab.py down [PEER...]      ends what this folder started, by process id (everything if none is named)
    lab.py show PEER [--family FAMILY] [--local] [--json]    the routes a peer holds from us, or its own
    lab.py show PEER --session     established, idle, ...
    lab.py list                the peers

-d FOLDER or $LAB_DIR says where configurations, logs and process ids are. Addresses are fixed: run one lab in a network namespace.
Exit: 0 done; 1 a router failed, the text says why; 2 wrong words; 3 a package is missing, nothing was started.
"""
import argparse
import dataclasses
import json
import os
import shutil
import signal
import subprocess
import sys
import time

from peer import PEERS, Failed, complain
from routers import KINDS
from rule import FAMILIES

DEFAULT = ["gobgp", "bird", "exabgp", "frr", "openbgpd"]
START, STOP = 15, 5  # seconds


def missing(peers):
    """{package: program} of what is not installed."""
    programs = {program: package for peer in peers for program, package in KINDS[peer.kind].PROGRAMS.items()}
    return {package: program for program, package in programs.items() if not shutil.which(program)}


def is_listening(address, port):
    """Whether somebody listens there; asked of the kernel, because a connection would be an attempt at a session."""
    wanted = [f"{''.join(f'{int(part):02X}' for part in reversed(host.split('.')))}:{port:04X}" for host in (address, "0.0.0.0")]
    with open("/proc/net/tcp") as table:
        return any(line.split()[1] in wanted and line.split()[3] == "0A" for line in table.readlines()[1:])


def stat(pid):
    """Fields of /proc/PID/stat from the third on; `None` if there is no such process."""
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rsplit(")", 1)[1].split()
    except OSError:
        return None


def leader(peer):
    """The process id of a peer that this lab started and that still runs. Its start time tells it from another with that number."""
    try:
        with open(peer.file("pid")) as file:
            pid, began = file.read().split()
    except (OSError, ValueError):
        return None
    fields = stat(pid)
    return int(pid) if fields and fields[19] == began and fields[0] != "Z" else None


def group(pid):
    """All processes of a peer: it was started as the leader of a group of its own."""
    fields = {int(name): stat(name) for name in os.listdir("/proc") if name.isdigit()}
    return [each for each, field in fields.items() if field and int(field[2]) == pid and field[0] != "Z"]


def wait(seconds, look):
    deadline = time.monotonic() + seconds
    while not (found := look()) and time.monotonic() < deadline:
        time.sleep(0.05)
    return found


def start(peer):
    if leader(peer):
        return
    kind = KINDS[peer.kind]
    for address, port in [(peer.address, peer.port)] + ([("127.0.0.1", peer.api)] if peer.api else []):
        if is_listening(address, port):
            raise Failed(f"{peer.name}: {address}:{port} is in use by something that this lab did not start")
    shutil.rmtree(peer.folder, ignore_errors=True)
    os.makedirs(peer.folder, 0o755)
    for name, text in kind.files(peer).items():
        os.makedirs(os.path.dirname(peer.file(name)), exist_ok=True)
        with open(peer.file(name), "w") as file:
            file.write(text)
    with open(peer.file("log"), "w") as log:
        process = subprocess.Popen(kind.command(peer), cwd=peer.folder, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True)
    with open(peer.file("pid"), "w") as file:
        file.write(f"{process.pid} {stat(process.pid)[19]}\n")


def wait_for(peer):
    def is_ready():
        if not leader(peer):
            with open(peer.file("log")) as log:
                raise Failed(f"{peer.name} ended at its start: {log.read()[-1000:]}")
        try:
            return is_listening(peer.address, peer.port) and KINDS[peer.kind].is_ready(peer)
        except (Failed, OSError, ValueError):
            return False
    if not wait(START, is_ready):
        raise Failed(f"{peer.name} is not ready after {START} s, see {peer.file('log')}")
    print(f"{peer.name} {peer.address}:{peer.port} AS {peer.asn}")


def stop(peer):
    pid = leader(peer)
    if pid:
        members = group(pid)
        os.kill(pid, signal.SIGTERM)
        gone = lambda: not any(each in group(pid) for each in members)
        if not wait(STOP, gone):
            for each in group(pid):
                os.kill(each, signal.SIGKILL)
            wait(STOP, gone)
        wait(STOP, lambda: not is_listening(peer.address, peer.port))
    if os.path.exists(peer.file("pid")):
        os.remove(peer.file("pid"))


def up(peers):
    if absent := missing(peers):
        programs = ", ".join(sorted(absent.values()))
        complain(f"not installed: {programs}. apt-get install --no-install-recommends {' '.join(sorted(absent))}")
        return 3
    for peer in peers:
        start(peer)
    for peer in peers:
        wait_for(peer)
    return 0


def show(peer, arguments):
    if not os.path.isdir(peer.folder):
        raise Failed(f"{peer.name} was not started in {os.path.dirname(peer.folder)}")
    kind = KINDS[peer.kind]
    if arguments.session:
        print(kind.session(peer))
        return
    families = [arguments.family] if arguments.family else FAMILIES
    routes = [route for family in families for route in kind.routes(peer, family) if route["local"] == arguments.local]
    routes.sort(key=lambda route: (FAMILIES.index(route["family"]), route["text"], route["actions"]))
    if arguments.json:
        print(json.dumps(routes, indent=1, ensure_ascii=False))
        return
    for route in routes:
        communities = (route["communities"] or []) + (route["large_communities"] or [])
        print(" | ".join([route["family"], route["text"], ", ".join(route["actions"]), route["next_hop"] or "", " ".join(communities)]))


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-d", "--folder", default=os.environ.get("LAB_DIR"))
    words = parser.add_subparsers(dest="word", required=True)
    for word in ("up", "down"):
        words.add_parser(word).add_argument("peers", nargs="*", choices=[*PEERS, []], metavar="PEER")
    words.add_parser("list")
    showing = words.add_parser("show")
    showing.add_argument("peer", choices=PEERS, metavar="PEER")
    showing.add_argument("--family", choices=FAMILIES)
    for flag in ("--json", "--local", "--session"):
        showing.add_argument(flag, action="store_true")
    parsed = parser.parse_args()
    if parsed.word != "list" and not parsed.folder:
        parser.error("say -d FOLDER, or set LAB_DIR")
    return parsed


def main():
    parsed = arguments()
    if parsed.word == "list":
        for peer in PEERS.values():
            print(f"{peer.name} {peer.kind} {peer.address}:{peer.port} AS {peer.asn}")
        return 0
    folder = os.path.abspath(parsed.folder)
    peers = {name: dataclasses.replace(peer, folder=os.path.join(folder, name)) for name, peer in PEERS.items()}
    try:
        if parsed.word == "up":
            return up([peers[name] for name in parsed.peers or DEFAULT])
        if parsed.word == "down":
            for name in parsed.peers or PEERS:
                stop(peers[name])
        else:
            show(peers[parsed.peer], parsed)
    except Failed as failed:
        complain(failed)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
