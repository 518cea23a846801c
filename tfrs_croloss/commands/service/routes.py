"""Addresses that KServe has not, or answers otherwise."""

from fastapi import APIRouter, Request
from kserve.errors import InvalidInput, ModelNotFound
from starlette.responses import JSONResponse, Response

from tfrs_croloss.commands.service.gate import JSON_LENGTH
from tfrs_croloss.commands.service.model import Asked


def routes(model):
    """A router for a model.

    Args:
        model: The `Recommender`.
    """
    router = APIRouter()

    def add(method, path, answer, **options):
        """For a model, and for a version of it."""

        async def endpoint(request: Request):
            name, number = request.path_params["name"], request.path_params.get("version")
            if name != model.name:
                raise ModelNotFound(name)
            return await answer(request, None if number is None else int(number), **options)

        protocol, _, rest = path.partition("{model}")
        for named in ("{name}", "{name}/versions/{version}"):
            router.add_api_route(protocol + named + rest, endpoint, methods=[method])

    async def infer(request, version, is_v2):
        asked = Asked(
            await request.body(), is_v2, version, _json_length(request) if is_v2 else None
        )
        (content, length), _ = await model(asked)
        headers = {} if length is None else {JSON_LENGTH: str(length)}
        kind = "application/json" if length is None else "application/octet-stream"
        return Response(content, headers=headers, media_type=kind)

    async def describe(request, version):
        found = model.version(version)
        spec = {"name": model.name, "signature_name": "", "version": str(found.number)}
        return JSONResponse({"model_spec": spec, "metadata": {"signature_def": found.definitions}})

    async def describe_v2(request, version):
        return JSONResponse(
            {
                "name": model.name,
                "versions": [str(model.version(version).number)],
                "platform": "tensorflow_savedmodel",
                "inputs": model.get_input_types(),
                "outputs": model.get_output_types(),
            }
        )

    async def ready(request, version):
        model.version(version)
        return JSONResponse({"name": model.name, "ready": True})

    add("POST", "/v1/models/{model}:predict", infer, is_v2=False)
    add("GET", "/v1/models/{model}/metadata", describe)
    add("POST", "/v2/models/{model}/infer", infer, is_v2=True)
    add("GET", "/v2/models/{model}", describe_v2)
    add("GET", "/v2/models/{model}/ready", ready)
    return router


def _json_length(request):
    value = request.headers.get(JSON_LENGTH)
    if value is not None and not (value.isascii() and value.isdigit() and len(value) < 19):
        raise InvalidInput(f"`{JSON_LENGTH}` must be a number of bytes. Received: {value!r:.100}")
    return None if value is None else int(value)
