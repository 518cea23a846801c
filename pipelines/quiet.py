"""What TensorFlow's and ScaNN's C++ log as information, kept from a person's terminal."""

import atexit
import contextlib
import os
import shutil
import subprocess
import sys

# Lines of the level "info" in absl's format, and what absl says before the first of them. Neither
# library has a setting for these: TF_CPP_MIN_LOG_LEVEL is for TensorFlow's own format.
CHATTER = (
    r"^I[0-9]{4} [0-9:.]+ +[0-9]+ [^ ]+:[0-9]+\] "
    r"|^WARNING: All log messages before absl::InitializeLog\(\) is called are written to STDERR$"
)
# For the last lines to be read, at the end.
GRACE_SECONDS = 5


def quiet_stderr():
    """Lets all but these lines of this process's C++ through to stderr; Python writes to it itself.

    A process of its own reads the lines, so that the last words of one that crashes are shown, too.
    Who sets TF_CPP_MIN_LOG_LEVEL=0 gets everything.
    """
    grep = shutil.which("grep")
    if grep is None or os.environ.get("TF_CPP_MIN_LOG_LEVEL") == "0":
        return
    stderr = os.dup(2)
    reader = subprocess.Popen(
        [grep, "--line-buffered", "-a", "-v", "-E", CHATTER],
        stdin=subprocess.PIPE,
        stdout=stderr,
        # A Ctrl-C in the terminal is not for it.
        start_new_session=True,
    )
    sys.stderr = os.fdopen(stderr, "w", buffering=1, errors="backslashreplace")
    os.dup2(reader.stdin.fileno(), 2)
    reader.stdin.close()

    def end():
        os.dup2(stderr, 2)
        # A process that was started here may live on, and write still.
        with contextlib.suppress(subprocess.TimeoutExpired):
            reader.wait(GRACE_SECONDS)

    atexit.register(end)
