"""Who is asked in a cascade: the cheapest model first, cheap ones beside it, the dearest in the end."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from gateway.admission import Admissions
from gateway.errors import InvalidRequest
from gateway.passage import Passage
from gateway.router import Route, escalations
from gateway.routing.policy import AskFirst
from gateway.wiring import Gateway

MOST_BESIDE = 2  # of three models, two can agree


@dataclass(frozen=True)
class Plan:
    """`route` and `way` are those of the first call; `beside` those that can be asked for their agreement,
    the cheapest first; `dearest` is None where there is nobody to escalate to, and so no cascade."""

    route: Route
    way: Passage
    beside: Sequence[Route] = ()
    dearest: Route | None = None


def planned(gateway: Gateway, admissions: Admissions) -> Plan:
    """What the policy makes of a request.

    :raises GatewayError: where no model can answer
    """
    route, way = admissions.find_way()
    if route.policy != AskFirst.name:
        return Plan(route, way)
    others = [
        other
        for other in escalations(admissions.asked, admissions.catalog, route)
        if _has_way(admissions, other)
    ]
    if not others:
        return Plan(replace(route, reason="no dearer model can answer"), way)
    return Plan(route, held_way(gateway, admissions, route), others[:-1][:MOST_BESIDE], others[-1])


def held_way(gateway: Gateway, admissions: Admissions, route: Route) -> Passage:
    """A way to the model of `route` whose answer can be checked."""
    wanted = "probability" in gateway.settings.cascade_rules.checks
    return admissions.way_to(
        route.model, held=True, probabilities=wanted and route.model.name not in gateway.without_probabilities
    )


def _has_way(admissions: Admissions, route: Route) -> bool:
    """Whether the request can be put to a model, through a translation if need be."""
    if admissions.asked.api not in route.model.apis:
        try:
            admissions.way_of(route)
        except InvalidRequest:
            return False
    return True
