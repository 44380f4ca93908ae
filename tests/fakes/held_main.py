"""Runs prnet_jax.main, which waits at a certain point until it is stopped: held_main.py ARGUMENTS

From the question number $FAKE_HOLD on whether to stop, main gets an answer only once it is yes. So
a signal always finds it in training, however fast the machine. $FAKE/held_N says that process N of
Slurm waits there. It gives up after half an hour, and srun ends it earlier.
"""

import os
import pathlib
import runpy
import sys
import time

from prnet_jax.preemption import Stop

BOUND_S = 1800
asked = 0
reached = Stop.reached


def reached_or_held(stop: Stop) -> bool:
    global asked
    asked += 1
    found = reached(stop)
    if asked < int(os.environ["FAKE_HOLD"]):
        return found
    pathlib.Path(os.environ["FAKE"], f"held_{os.environ['SLURM_PROCID']}").touch()
    end = time.monotonic() + BOUND_S
    while not found:
        if time.monotonic() > end:
            os._exit(1)
        time.sleep(0.02)
        found = reached(stop)
    return found


Stop.reached = reached_or_held
sys.argv[0] = "prnet_jax.main"
runpy.run_module("prnet_jax.main", run_name="__main__", alter_sys=True)
