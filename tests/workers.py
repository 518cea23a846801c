"""A pytest plugin that keeps the memory of the tests in bounds, and says how much they took.

What XLA compiles stays in TensorFlow and JAX until the process ends: no call gives it back. So
pytest-xdist's workers are replaced before they hold much, and big files are dealt in parts.
"""

import resource
import sys
from collections import Counter

import pytest

# What no process may hold at any time, in MB (2²⁰ bytes).
LIMIT = 3 * 1024
# A worker that holds more is given no more tests. What it still has may need the rest of the limit.
FULL = 1000
# Tests that are given out together, of one file.
PART = 50

_scheduler = pytest.StashKey()
_peaks = pytest.StashKey()


def peak(whose):
    """The most memory, in MB, that this process held, or the largest of those that it started."""
    unit = 2**20 if sys.platform == "darwin" else 2**10
    return resource.getrusage(whose).ru_maxrss // unit


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport():
    report = yield
    # It is sent with the report to the process that deals out the tests.
    report.peak = peak(resource.RUSAGE_SELF)
    return report


def pytest_runtest_logreport(report):
    if hasattr(report, "node") and hasattr(report, "peak"):
        report.node.peak = report.peak


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config, log):
    if config.getvalue("dist") != "loadfile":
        return None
    from xdist.scheduler import LoadFileScheduling

    class Scheduling(LoadFileScheduling):
        """Deals out files, or parts of them, to workers that are not full."""

        def __init__(self, *args):
            super().__init__(*args)
            self._parts = {}

        def _split_scope(self, nodeid):
            if not self._parts:
                seen = Counter()
                for each in self.collection:
                    file = super()._split_scope(each)
                    self._parts[each] = f"{file} {seen[file] // PART}"
                    seen[file] += 1
            return self._parts[nodeid]

        def add_node_collection(self, node, collection):
            super().add_node_collection(node, collection)
            if node not in self.registered_collections:
                raise RuntimeError(
                    "other tests are collected now than at the start: run them again"
                )

        def _reschedule(self, node):
            if node not in self.registered_collections and self.workqueue:
                # It was started a moment ago, and is asked again when it has collected the tests.
                return
            if getattr(node, "peak", 0) > FULL:
                # It ends when it has run what it has.
                if not node.shutting_down:
                    node.shutdown()
                return
            super()._reschedule(node)

    config.stash[_scheduler] = Scheduling(config, log)
    return config.stash[_scheduler]


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node, error):
    """In the process that deals out the tests: a worker has ended."""
    peaks = getattr(node, "workeroutput", {}).get("peaks")
    if peaks:
        node.config.stash.setdefault(_peaks, {})[node.gateway.id] = peaks
    # Its process would stay until the end of the run, with all that it holds.
    node.gateway.exit()
    scheduler = node.config.stash.get(_scheduler, None)
    session = node.config.pluginmanager.getplugin("dsession")
    if error is None and scheduler is not None and scheduler.workqueue and not session.shouldstop:
        # pytest-xdist has no public way to start another; it does so itself after a crash.
        session._clone_node(node)


@pytest.hookimpl(tryfirst=True)
def pytest_sessionfinish(session):
    peaks = peak(resource.RUSAGE_SELF), peak(resource.RUSAGE_CHILDREN)
    if hasattr(session.config, "workeroutput"):
        session.config.workeroutput["peaks"] = peaks
    elif _peaks not in session.config.stash:
        # It ran the tests itself, as one does to debug: nothing replaces it.
        session.config.stash[_peaks] = {"this process": peaks}
    elif _is_over(session.config) and session.exitstatus == pytest.ExitCode.OK:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter, config):
    peaks = config.stash.get(_peaks, {})
    own = ", ".join(f"{name} {mb}" for name, (mb, _) in peaks.items())
    started = max((mb for _, mb in peaks.values()), default=0)
    terminalreporter.write_line(
        f"Peak memory in MB: {own}; of what they started, at most {started}"
    )
    if _is_over(config):
        terminalreporter.write_line(
            f"error: a process held more than {LIMIT} MB: see tests/workers.py", red=True
        )


def _is_over(config):
    """Whether a process held too much, of those whose tests were dealt out."""
    peaks = config.stash.get(_peaks, {})
    return "this process" not in peaks and max(map(max, peaks.values()), default=0) > LIMIT
