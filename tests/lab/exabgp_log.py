#!/usr/bin/env python3
"""What ExaBGP runs beside itself: its JSON goes to FOLDER/rx.json, and what is written to the pipe FOLDER/cmd goes to ExaBGP as a
command. Usage: exabgp_log.py FOLDER"""
import os
import selectors
import sys

folder = sys.argv[1]
pipe = os.path.join(folder, "cmd")
os.mkfifo(pipe)
commands = os.open(pipe, os.O_RDWR)  # open for both, so that it has no end
log = os.open(os.path.join(folder, "rx.json"), os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
selector = selectors.DefaultSelector()
selector.register(0, selectors.EVENT_READ, log)
selector.register(commands, selectors.EVENT_READ, 1)
while True:
    for ready, _ in selector.select():
        try:
            octets = os.read(ready.fd, 65536)
        except BlockingIOError:
            continue
        if not octets:
            sys.exit()
        os.write(ready.data, octets)
