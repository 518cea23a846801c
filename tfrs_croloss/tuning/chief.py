"""The process that keeps a search which several others, the workers, run the trials of."""

import os
import time
from concurrent import futures

POLL_SECONDS = 0.2
# For an answer that is on its way when the last worker has been told to stop.
GRACE_SECONDS = 5


def address():
    """Where the chief listens, from keras-tuner's environment variables."""
    return f"{os.environ['KERASTUNER_ORACLE_IP']}:{os.environ['KERASTUNER_ORACLE_PORT']}"


def serve(oracle):
    """Answers the workers until the search has ended and each worker knows.

    In place of keras-tuner's own loop, which looks only every 20 s whether that is so, and then
    drops the server with its last answer perhaps unsent: the worker that waits for it waits an
    hour.

    Raises:
        OSError: If the port can't be listened on.
    """
    # Not at the top: these are for searches with a chief alone.
    import grpc
    from keras_tuner.src import protos
    from keras_tuner.src.distribute.oracle_chief import OracleServicer, exit_chief

    # Otherwise two chiefs of one port would share its workers out at random.
    options = [("grpc.so_reuseport", 0)]
    # One thread: keras-tuner's lock stays locked after an error.
    server = grpc.server(futures.ThreadPoolExecutor(max_workers=1), options=options)
    servicer = OracleServicer(oracle)
    protos.get_service_grpc().add_OracleServicer_to_server(servicer, server)
    try:
        server.add_insecure_port(address())
    except RuntimeError as error:
        raise OSError(f"the chief can't listen on {address()}: {error}") from error
    server.start()
    try:
        while not (servicer.stop_triggered and exit_chief(oracle)):
            time.sleep(POLL_SECONDS)
    finally:
        server.stop(GRACE_SECONDS).wait()
