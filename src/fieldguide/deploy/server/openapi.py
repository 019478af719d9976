"""The description of a server's paths, in OpenAPI 3.1."""

from typing import Any

from fieldguide.deploy.server.kserve import LABEL, PHOTOS, PROBABILITIES

ERRORS = {
    "400": "the request cannot be read",
    "401": "the token is missing or wrong",
    "408": "the upload is too slow",
    "413": "the request is too large",
    "503": "too many photos wait, or the server stops; Retry-After says when to try again",
}


def description(model: str, version: str, *, has_token: bool) -> dict[str, Any]:
    """All paths; `model` is the model's name, `version` fieldguide's."""
    secured: dict[str, Any] = {"security": [{"token": []}]} if has_token else {}
    schemes = {"securitySchemes": {"token": {"type": "http", "scheme": "bearer"}}} if has_token else {}
    infer = f"/v2/models/{model}"
    return {
        "openapi": "3.1.0",
        "info": {"title": f"fieldguide: {model}", "version": version},
        **secured,
        "paths": {
            "/predict": {"post": _predict()},
            "/v2/health/live": {"get": _get("200 while the process runs")},
            "/v2/health/ready": {"get": _get("200 while photos are accepted, else 503")},
            "/v2": {"get": _get("name, version and extensions of the server")},
            infer: {"get": _get("inputs, outputs and classes of the model")},
            f"{infer}/ready": {"get": _get("200 while photos are accepted, else 503")},
            f"{infer}/infer": {"post": _infer()},
            "/metrics": {"get": _get("counters for Prometheus")},
        },
        "components": {"schemas": {"Prediction": _prediction(), "Error": _error()}, **schemes},
    }


def _get(what: str) -> dict[str, Any]:
    return {"summary": what, "responses": {"200": {"description": "as the summary says"}}}


def _predict() -> dict[str, Any]:
    file = {"type": "string", "format": "binary"}
    form = {"type": "object", "properties": {"photo": {"type": "array", "items": file}}}
    return {
        "summary": "the classes of one photo (the body) or several (files of a form)",
        "parameters": [_query("top", "classes listed per photo; default 5", {"type": "integer", "minimum": 1})],
        "requestBody": {
            "required": True,
            "content": {"image/*": {"schema": file}, "multipart/form-data": {"schema": form}},
        },
        "responses": _responses(
            {
                "type": "object",
                "required": ["model", "predictions"],
                "properties": {
                    "model": {"type": "string"},
                    "predictions": {"type": "array", "items": {"$ref": "#/components/schemas/Prediction"}},
                },
            }
        ),
    }


def _infer() -> dict[str, Any]:
    about = f"{PHOTOS}: UINT8 (photos, height, width, 3) or BYTES (photos); gives {PROBABILITIES} and {LABEL}"
    return {
        "summary": f"the Open Inference Protocol, version 2; {about}",
        "requestBody": {"required": True, "content": {"application/json": {"schema": {"type": "object"}}}},
        "responses": _responses({"type": "object"}),
    }


def _query(name: str, what: str, schema: dict[str, Any]) -> dict[str, Any]:
    return {"name": name, "in": "query", "required": False, "description": what, "schema": schema}


def _responses(schema: dict[str, Any]) -> dict[str, Any]:
    error = {"application/json": {"schema": {"$ref": "#/components/schemas/Error"}}}
    refused = {status: {"description": what, "content": error} for status, what in ERRORS.items()}
    return {"200": {"description": "the answer", "content": {"application/json": {"schema": schema}}}, **refused}


def _prediction() -> dict[str, Any]:
    top = {"type": "object", "properties": {"label": {"type": "string"}, "confidence": {"type": "number"}}}
    return {
        "type": "object",
        "required": ["image", "status"],
        "properties": {
            "image": {"type": ["string", "null"], "description": "the file's name, if it was sent"},
            "status": {"enum": ["ok", "unsure", "failed"]},
            "label": {"type": "string"},
            "confidence": {"type": "number", "minimum": 0, "maximum": 1},
            "top": {"type": "array", "items": top},
            "error": {"type": "string", "description": "why it failed"},
        },
    }


def _error() -> dict[str, Any]:
    return {"type": "object", "required": ["error"], "properties": {"error": {"type": "string"}}}
