"""The routes by which a test sets up a mock and looks at what reached it."""

from flask import Flask, Response, jsonify, request

from model_server.faults import Faults
from model_server.seen import SeenRequests


def add_controls(app: Flask, faults: Faults, seen: SeenRequests) -> None:
    """Add `/fault`, the standing fault, and `/requests`, the latest requests to the model."""

    def fault_in_force() -> Response:
        if (standing := faults.standing) is None:
            return jsonify({"fault": None})
        return jsonify({"fault": standing.text, "seen": standing.seen, "failed": standing.failed})

    @app.get("/fault")
    def read_fault() -> Response:
        return fault_in_force()

    @app.put("/fault")
    def set_fault() -> Response:
        faults.stand(request.get_data(cache=False, as_text=True).strip())
        return fault_in_force()

    @app.delete("/fault")
    def end_fault() -> Response:
        faults.end_standing()
        return fault_in_force()

    @app.get("/requests")
    def list_requests() -> Response:
        return jsonify({"data": seen.as_json(request.args.get("canary"))})
