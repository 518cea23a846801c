"""What TensorFlow's and ScaNN's C++ log as information, kept from a person's terminal."""

import contextlib
import os
import shutil
import subprocess

# Lines of the level "info" in absl's format, and what absl says before the first of them. Neither
# library has a setting for these: TF_CPP_MIN_LOG_LEVEL is for TensorFlow's own format.
CHATTER = (
    r"^I[0-9]{4} [0-9:.]+ +[0-9]+ [^ ]+:[0-9]+\] "
    r"|^WARNING: All log messages before absl::InitializeLog\(\) is called are written to STDERR$"
)
# For the last lines to be read, at the end.
GRACE_SECONDS = 5


@contextlib.contextmanager
def quiet_stderr():
    """Lets all but these lines of this process's C++ through to stderr; Python writes to it itself.

    A process of its own reads the lines, so that the last words of one that crashes are shown, too.
    Who sets TF_CPP_MIN_LOG_LEVEL=0 gets everything.
    """
    grep = shutil.which("grep")
    if grep is None or os.environ.get("TF_CPP_MIN_LOG_LEVEL") == "0":
        yield
        return
    with os.fdopen(os.dup(2), "w", buffering=1, errors="backslashreplace") as stderr:
        reader = subprocess.Popen(
            [grep, "--line-buffered", "-a", "-v", "-E", CHATTER],
            stdin=subprocess.PIPE,
            stdout=stderr,
            # A Ctrl-C in the terminal is not for it.
            start_new_session=True,
        )
        os.dup2(reader.stdin.fileno(), 2)
        reader.stdin.close()
        try:
            with contextlib.redirect_stderr(stderr):
                yield
        finally:
            os.dup2(stderr.fileno(), 2)
            # A process that was started here may live on, and write still.
            with contextlib.suppress(subprocess.TimeoutExpired):
                reader.wait(GRACE_SECONDS)
