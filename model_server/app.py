"""The server of a mock model: its routes."""

import random
from contextlib import ExitStack

from flask import Flask, Response, jsonify, request

from model_server.config import Settings
from model_server.controls import add_controls
from model_server.dialects import dialects_of
from model_server.endpoint import Endpoint
from model_server.error_handlers import register_error_handlers
from model_server.errors import UnknownModel
from model_server.faults import HEADER, Faults
from model_server.ledger import Ledger
from model_server.profile import ModelProfile
from model_server.record import RequestRecord
from model_server.seen import SeenRequests

# 2025-01-01 UTC: what clients show as the model's date.
MODEL_CREATED = 1735689600
# OpenAI's header for an id of the client's own.
CALL_ID_HEADER = "X-Client-Request-Id"


def create_app(profile: ModelProfile, settings: Settings) -> Flask:
    """The WSGI application that plays `profile`, its ledger empty."""
    app = Flask(__name__, static_folder=None)
    app.config["MAX_CONTENT_LENGTH"] = settings.max_body_bytes
    # Flask's default provider has both, its base class neither.
    app.json.ensure_ascii = False  # type: ignore[attr-defined]
    app.json.sort_keys = False  # type: ignore[attr-defined]
    # A redirect would be the one answer that is no JSON.
    app.url_map.merge_slashes = False
    register_error_handlers(app)

    ledger = Ledger(profile)
    faults = Faults(random.random, profile.name)
    seen = SeenRequests()
    endpoint = Endpoint(profile, settings, faults)
    dialects = dialects_of(profile)
    model = {"id": profile.name, "object": "model", "created": MODEL_CREATED, "owned_by": "mock"}

    def answer() -> Response:
        seen.note(request)
        record = RequestRecord(
            profile.name, request.path, request.headers.get(HEADER) or faults.standing_text
        )
        call = ledger.open_call(request.headers.get(CALL_ID_HEADER))
        with ExitStack() as unless_answered:
            unless_answered.callback(call.end)  # where the worker ends this request, there is no response
            try:
                response = endpoint.handle(request, dialects[request.path], call, record)
            except Exception as error:
                response = app.make_response(app.handle_user_exception(error))
                record.status = response.status_code
            unless_answered.pop_all()
        response.call_on_close(call.end)
        response.call_on_close(record.write)
        return response

    for path in dialects:
        app.add_url_rule(path, endpoint=path, view_func=answer, methods=["POST"])

    @app.get("/v1/models")
    def list_models() -> Response:
        return jsonify({"object": "list", "data": [model]})

    @app.get("/v1/models/<path:model_id>")
    def get_model(model_id: str) -> Response:
        if model_id != profile.name:
            raise UnknownModel(f"The model '{model_id}' does not exist.", "model")
        return jsonify(model)

    @app.get("/healthz")
    def healthz() -> Response:
        return jsonify({"status": "ok"})

    @app.get("/ledger")
    def read_ledger() -> Response:
        return Response(ledger.to_json(), mimetype="application/json")

    @app.get("/ledger/<path:call_id>")
    def read_bill(call_id: str) -> Response:
        return Response(ledger.bill_to_json(call_id), mimetype="application/json")

    add_controls(app, faults, seen)
    return app
