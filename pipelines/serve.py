"""Serving an exported model over HTTP, with TensorFlow and KServe: `make serve`."""

import logging
import sys

import jsonargparse


def serve(
    model: str,
    name: str = "model",
    port: int = 8501,
    poll_seconds: float = 1.0,
    max_body_bytes: int = 1_000_000,
    max_rows: int = 1_000,
):
    """Serves an exported model over HTTP, as TensorFlow Serving's REST API would.

    It takes POST /v1/models/<name>:predict, and has GET /v1/models/<name> and /v2/health/ready
    (ready?), /v2/models/<name> (inputs and outputs), / (alive?) and /metrics (Prometheus). SIGTERM
    lets it finish what it has begun, for half a minute at most.

    Args:
        model: Folder of the model's versions, of which it serves the largest: also one that comes
            later.
        name: Name of the model in the address.
        port: Port, on all interfaces.
        poll_seconds: How often to look for another version.
        max_body_bytes: The most bytes a request's body may have.
        max_rows: The most users, or histories or embeddings, a request may have.
    """
    import kserve
    from kserve.errors import InvalidInput, ModelNotFound
    from kserve.logging import configure_logging
    from kserve.model_server import app
    from kserve.utils.utils import cpu_count
    from starlette.exceptions import HTTPException

    from pipelines.service.gate import Gate, say
    from pipelines.service.model import Recommender
    from pipelines.service.versions import Versions

    configure_logging()
    # KServe writes four lines a request, and a traceback for each that makes no sense.
    logging.getLogger("kserve.trace").setLevel(logging.WARNING)
    logging.getLogger("uvicorn.access").setLevel(logging.WARNING)
    logging.getLogger("kserve").addFilter(
        lambda record: (
            not (record.exc_info and isinstance(record.exc_info[1], InvalidInput | ModelNotFound))
        )
    )
    versions = Versions(model)
    versions.watch(poll_seconds)
    app.add_middleware(Gate, max_body_bytes=max_body_bytes)
    app.add_exception_handler(HTTPException, say)
    # As many requests at once as there are CPUs: more would want more memory.
    server = kserve.ModelServer(http_port=port, enable_grpc=False, max_asyncio_workers=cpu_count())
    server.start([Recommender(name, versions, max_rows)])


def main(args=None):
    parser = jsonargparse.ArgumentParser(
        prog="python -m pipelines.serve", description=serve.__doc__.split("Args:")[0]
    )
    parser.add_function_arguments(serve, as_group=False)
    chosen = parser.parse_args(args).as_dict()
    try:
        serve(**chosen)
    except ImportError as error:
        print(f"error: {error}. `make serve` installs what it needs", file=sys.stderr)
        sys.exit(2)
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)


if __name__ == "__main__":
    main()
