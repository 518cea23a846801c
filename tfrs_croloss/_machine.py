"""What figures are of: this machine, and the memory of this process."""

import os
import platform
import resource
import sys
from pathlib import Path


def cpu():
    """Says how many cores of which processor there are."""
    name = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.exists():
        names = [x for x in info.read_text().splitlines() if x.startswith("model name")]
        name = names[0].split(":")[1].strip() if names else name
    return f"{os.cpu_count()} cores of {name}"


def peak_memory_mb():
    """The most memory that this process had resident so far, in MB (10⁶ bytes)."""
    # Linux's own `ru_maxrss` would do but for this: a process inherits that of the one that
    # started it, and `compare` may have had more than a run of it has.
    if Path("/proc/self/status").exists():
        return resident_bytes("VmHWM") / 1e6
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e6


def resident_bytes(field):
    """`VmRSS`, what this process holds, or `VmHWM`, the most since `forget_peak`."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(field + ":"))
