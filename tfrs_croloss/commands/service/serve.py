"""Serving an exported model over HTTP, with TensorFlow and KServe: `tfrs-croloss serve`."""

import ipaddress
import logging
import signal
import ssl
import sys

from jsonargparse.typing import PositiveInt, restricted_number_type, restricted_string_type

Port = restricted_number_type("Port", int, [(">=", 0), ("<=", 65_535)])
# Waiting less would be a busy loop; threads can't wait much longer.
Seconds = restricted_number_type("Seconds", float, [(">=", 0.01), ("<=", 1e9)])
# What is in an address as it is.
Name = restricted_string_type("Name", r"^[A-Za-z0-9_][A-Za-z0-9._-]*$")


def serve(
    model: str,
    name: Name = "model",
    host: str = "127.0.0.1",
    port: Port = 8501,
    api_key_file: str | None = None,
    tls_cert: str | None = None,
    tls_key: str | None = None,
    poll_seconds: Seconds = 1.0,
    max_body_bytes: PositiveInt = 1_000_000,
    max_rows: PositiveInt = 1_000,
):
    """Serves an exported model over HTTP, as TensorFlow Serving's REST API and KServe's V2 would.

    It takes POST /v1/models/<name>:predict and /v2/models/<name>/infer, and has GET
    /v1/models/<name> and /v2/health/ready (ready?), /v1/models/<name>/metadata and
    /v2/models/<name> (inputs and outputs), / (alive?) and /metrics (Prometheus). SIGTERM lets it
    finish what it has begun, for half a minute at most.

    Args:
        model: Folder of the model's versions, of which it serves the largest: also one that comes
            later.
        name: Name of the model in the address: ASCII letters, digits, ".", "_" and "-".
        host: Address to listen on: of this machine alone by default, 0.0.0.0 for all.
        port: Port, from 1 to 65535; 0 for any that is free.
        api_key_file: File of keys, a line each. A request must then have one of them, as
            `Authorization: Bearer <key>`; / and /v2/health need none. The file is read again when
            it changes.
        tls_cert: Certificate chain in a PEM file, for HTTPS. Read again when it changes.
        tls_key: Its private key in a PEM file, without a password.
        poll_seconds: How often to look for another version, from 0.01 to 1e9.
        max_body_bytes: The most bytes a request's body may have, as sent and unpacked from gzip.
        max_rows: The most users, or histories or embeddings, a request may have.
    """
    _check_tls(tls_cert, tls_key)
    from kserve import ModelRepository
    from kserve.logging import logger
    from kserve.model_server import app
    from kserve.protocol.dataplane import DataPlane
    from kserve.protocol.model_repository_extension import ModelRepositoryExtension
    from kserve.protocol.rest.server import RESTServer
    from starlette.exceptions import HTTPException

    from tfrs_croloss.commands.service.gate import Gate, say
    from tfrs_croloss.commands.service.keys import Keys
    from tfrs_croloss.commands.service.model import Recommender
    from tfrs_croloss.commands.service.routes import routes
    from tfrs_croloss.commands.service.versions import Versions

    _set_up_logging()
    keys = None if api_key_file is None else Keys(api_key_file)
    _warn_of_the_open(host, port, keys, tls_cert)
    versions = Versions(model)
    versions.watch(poll_seconds)
    recommender = Recommender(name, versions, max_rows)
    logger.info("answers in %d threads", recommender.num_threads)
    models = ModelRepository()
    models.update(recommender)
    app.add_middleware(Gate, max_body_bytes=max_body_bytes, keys=keys)
    app.add_exception_handler(HTTPException, say)
    # Before those of KServe, so that these answer.
    app.include_router(routes(recommender))
    # KServe's `ModelServer` would listen on all interfaces, and has gRPC, which no gate keeps.
    server = RESTServer(
        "kserve.model_server:app",
        DataPlane(model_registry=models),
        ModelRepositoryExtension(model_registry=models),
        http_port=port,
        ssl_certfile=tls_cert,
        ssl_keyfile=tls_key,
    )
    server.config.host = host
    # The server sends itself again what made it finish, when it has.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: sys.exit(0))
    server.run()


def _set_up_logging():
    from kserve.errors import InvalidInput, ModelNotFound
    from kserve.logging import configure_logging

    configure_logging()
    # KServe writes four lines a request, and a traceback for each that makes no sense.
    logging.getLogger("kserve.trace").setLevel(logging.WARNING)
    logging.getLogger("uvicorn.access").setLevel(logging.WARNING)
    logging.getLogger("kserve").addFilter(
        lambda record: (
            not (record.exc_info and isinstance(record.exc_info[1], InvalidInput | ModelNotFound))
        )
    )


def _warn_of_the_open(host, port, keys, tls_cert):
    """Warns of what other machines may ask, or hear."""
    from kserve.logging import logger

    if _is_loopback(host):
        return
    if keys is None:
        logger.warning("whoever reaches %s:%d may ask: there is no --api_key_file", host, port)
    elif tls_cert is None:
        logger.warning(
            "keys travel to %s:%d in the clear, unless a proxy encrypts: there is no --tls_cert",
            host,
            port,
        )


def _check_tls(cert, key):
    """Raises a ValueError unless both files are there and fit, or none is wanted."""
    if (cert is None) != (key is None):
        raise ValueError("--tls_cert and --tls_key belong together: expected both, or none")
    if cert is None:
        return
    for option, path in (("--tls_cert", cert), ("--tls_key", key)):
        try:
            open(path, "rb").close()
        except OSError as error:
            raise ValueError(f"{option} {path}: {error.strerror}") from None
    try:
        # Without a password it would ask for one.
        ssl.create_default_context(ssl.Purpose.CLIENT_AUTH).load_cert_chain(cert, key, password="")
    except ssl.SSLError as error:
        raise ValueError(
            f"--tls_cert {cert}, --tls_key {key}: expected a certificate and its private key in "
            f"PEM, without a password. Received: {error}"
        ) from None


def _is_loopback(host):
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
