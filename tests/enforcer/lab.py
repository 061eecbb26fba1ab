#!/usr/bin/env python3
"""Attacker, router, victim: three network namespaces, `floodwall enforce` on the router, and checks from outside.

    lab.py CHECK --floodwall BINARY [--seed N] [...]

Exit code 0: as it should be; 1: not, and what was seen; 3: a program is missing. Needs root. Only namespaces made here see packets.
"""
import argparse
import os
import shutil
import sys

from daemon import end_to_end, single_box
from filters import acl, actions, atomic, cost, exactness, faults, install, limit
from own import own_speaker
from safety import ladder, lying_exporter, mass_alarm, twins
from speakers import announcers
from world import Lab

CHECKS = {"exactness": exactness, "install": install, "cost": cost, "atomic": atomic, "limit": limit, "actions": actions, "faults": faults, "acl": acl,
          "announcers": announcers, "own-speaker": own_speaker,
          "end-to-end": end_to_end, "single-box": single_box, "ladder": ladder, "mass-alarm": mass_alarm,
          "lying-exporter": lying_exporter, "twins": twins}


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("check", choices=sorted(CHECKS))
    parser.add_argument("--floodwall", required=True)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--pairs", type=int, default=5000)
    parser.add_argument("--rules", type=int, default=25)
    parser.add_argument("--packets", type=int, default=400)
    parser.add_argument("--hook", default="forward")
    parser.add_argument("--seconds", type=float, default=2, help="install: at most")
    parser.add_argument("--loops", type=int, default=20, help="cost: of 10,000 packets")
    parser.add_argument("--base", type=int, default=2000, help="atomic: rules that stand throughout")
    parser.add_argument("--telemetry", choices=["mirror", "sflow"], default="mirror")
    parser.add_argument("--profiles", default="generic,huawei,6wind,exabgp-text", help="own-speaker: router profiles, and ExaBGP's text")
    parser.add_argument("--rtbh", choices=["enforcer", "bird"], default="enforcer", help="ladder: who carries blackholes out")
    args = parser.parse_args()
    for program in ("ip", "nft"):
        if not shutil.which(program):
            print(f"{program} is missing")
            return 3
    with Lab(args.floodwall) as lab:
        try:
            ok = CHECKS[args.check](lab, args)
        except BaseException:
            for name in sorted(os.listdir(lab.dir)):
                if name.endswith(".log"):
                    print(f"--- {name}\n{lab.log(name[:-4])[-3000:]}")
            raise
    return 0 if ok else 1


if __name__ == "__main__":
    sys.exit(main())
