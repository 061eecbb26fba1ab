"""One module for each kind of router. A module has

    PROGRAMS            {program: the Debian package it comes in}
    files(peer)         {name: text} to write into the peer's folder before it starts
    command(peer)       how it is started in the foreground
    is_ready(peer)      whether it can be asked and waits for a session
    session(peer)       "established", "idle", ...
    routes(peer, family)  the routes it holds of a family, each made by `rule.Held.route`
"""
from routers import bird, exabgp, frr, gobgp, openbgpd

KINDS = {"gobgp": gobgp, "bird": bird, "exabgp": exabgp, "frr": frr, "openbgpd": openbgpd}
