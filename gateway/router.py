"""Which model answers a request, and why. Pure but for what chance draws: no I/O, no state."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from gateway.billing import MOST_TOKENS
from gateway.catalog import AUTO, Catalog, Model
from gateway.errors import ContextTooLong, InvalidRequest, ModelNotAllowed
from gateway.routing.exploration import NO_EXPLORATION, Exploration
from gateway.routing.features import Features
from gateway.routing.policy import IS_CHECKED, Policy, Score
from gateway.schema.base import ModelRequest

# The field of a request that asks for a capability, where that is one.
PARAMS = {"tools": "tools", "streaming": "stream"}
STORED_BY = ("previous_response_id", "conversation", "prompt")
IN_WORDS = {"json_schema": "answers by a JSON schema"}


@dataclass(frozen=True)
class Verdict:
    """What a policy made of a request: its score for these features, the threshold that it was held against,
    the model that was chosen and the one on the other side of the threshold. `propensity` is the probability
    with which that model was chosen, None where it is not known; one that was `explored` is not what the
    score asks for, but what chance drew."""

    score: Score
    threshold: float
    model: Model
    other: Model
    features: Features
    propensity: float | None = 1.0
    explored: bool = False


@dataclass(frozen=True)
class Route:
    """A decision, with the policy that took it and its reason in words without any of the prompt.
    `baseline` is the dearest model that could have answered; `verdict` is None where no policy was asked."""

    model: Model
    policy: str
    reason: str
    baseline: Model
    verdict: Verdict | None = None


def choose(
    request: ModelRequest,
    catalog: Catalog,
    policy: Policy,
    *,
    cheapest: bool = False,
    exploration: Exploration = NO_EXPLORATION,
) -> Route:
    """The model that the client named, or else the one that the policy chooses among those that can answer:
    the dearest for a score above its threshold, else the cheapest; now and then the other one of the two, for
    the sake of `exploration`. `cheapest` overrules it, for a budget's sake.

    :raises ModelNotAllowed: when the client named a model outside of what the catalog is restricted to
    :raises ModelNotFound: when the client named a model that is not configured
    :raises InvalidRequest: when the model that the client named cannot answer, or none can
    """
    able = able_models(request, catalog)
    if not catalog.leaves_choice(request.model):
        model = catalog.named(request.model)
        if obstacle := obstacle_to(request, model):
            raise obstacle
        # Of the two the later in the catalog, which goes from cheap to dear.
        baseline = max([model, *able[-1:]], key=catalog.place_of)
        return Route(model, "requested", "the client named the model", baseline)
    if len(catalog) == 0:
        raise ModelNotAllowed("This key may use no model that is configured.", param="model")
    if not able:
        raise _obstacle_to_all(request, [model for model in catalog if model.auto])
    few = (
        ""
        if len(able) == catalog.count_of_auto
        else f"; {len(able)} of {catalog.count_of_auto} models can answer"
    )
    if cheapest:
        return Route(able[0], "budget", f"the budget is nearly spent{few}", able[-1])
    score, threshold = policy.score(request.features), policy.threshold
    model, other = (able[-1], able[0]) if score.is_above(threshold) else (able[0], able[-1])
    reason = policy.in_words(score, threshold) + few
    propensity, explored = 1.0, False
    if exploration.share and len(able) > 1:
        explored, propensity = exploration.drawn()
        if explored:
            reason = f"explored, to learn from it: {reason}, which asks for {model.name}"
            model, other = other, model
    verdict = Verdict(score, threshold, model, other, request.features, propensity, explored)
    return Route(model, policy.name, reason, able[-1], verdict)


def able_models(request: ModelRequest, catalog: Catalog) -> Sequence[Model]:
    """Those that the policy may choose for a request, from the cheapest to the dearest."""
    capable = catalog.capable(request.api, request.capabilities, stored=request.stored)
    if capable.least_window is None or tokens_of(request) <= capable.least_window:
        return capable.models
    return [model for model in capable.models if obstacle_to(request, model) is None]


def tokens_of(request: ModelRequest) -> int:
    """The likely tokens of its prompt and the longest answer that it allows."""
    # Python refuses to write out the largest integers that a client can send.
    return request.prompt_tokens + min(request.max_output_tokens or 0, MOST_TOKENS)


def fallbacks(request: ModelRequest, catalog: Catalog, route: Route) -> list[Route]:
    """Where else a request may go when the model of `route` fails: to the fallbacks that the catalog lists
    for that model; where it lists none and the client left the choice, to all others that the policy could
    have chosen, the next dearer ones first, then the next cheaper ones. None of them lacks what it needs."""
    models = list(catalog)
    if route.model.fallbacks is not None:
        listed = {model.name: model for model in models}
        others = [listed[name] for name in route.model.fallbacks if name in listed]
    elif catalog.leaves_choice(request.model):
        place = next((i for i, model in enumerate(models) if model is route.model), len(models))
        others = models[place + 1 :] + models[:place][::-1]
        others = [model for model in others if model.auto]
    else:
        others = []
    able = [model for model in others if model is not route.model and obstacle_to(request, model) is None]
    able = _at_home(request, route.model, able)
    reason = f"{route.reason.removesuffix(f'; {IS_CHECKED}')}; fell back from {route.model.name}"
    return [
        replace(route, model=model, reason=reason, baseline=max(model, route.baseline, key=models.index))
        for model in able
    ]


def escalations(request: ModelRequest, catalog: Catalog, route: Route) -> list[Route]:
    """Who else can be asked about the answer of `route`, the cheapest model: those that the policy could have
    chosen, from the next cheapest to the dearest."""
    others = [model for model in able_models(request, catalog) if model is not route.model]
    return [replace(route, model=model) for model in _at_home(request, route.model, others)]


def obstacle_to(request: ModelRequest, model: Model) -> InvalidRequest | None:
    """Why a model cannot answer a request, or None where nothing is known to be in the way."""
    if not model.answers(request.api):
        return InvalidRequest(f"{model.name} does not serve {request.api}.", param="model")
    if request.stored and request.api not in model.apis:
        return InvalidRequest(
            f"{model.name}'s provider keeps no earlier answers; send the whole conversation instead.",
            param=next((name for name in STORED_BY if request.body.values.get(name) is not None), "input"),
        )
    missing = sorted(request.capabilities - model.capabilities)
    if missing:
        lacking = ", ".join(IN_WORDS.get(name, name) for name in missing)
        return InvalidRequest(
            f"{model.name} lacks what this request needs: {lacking}.", param=PARAMS.get(missing[0])
        )
    if model.context_window is not None:
        tokens = tokens_of(request)
        if tokens > model.context_window:
            return ContextTooLong(
                f"{model.name} has a context window of {model.context_window} tokens; this request needs "
                f"about {tokens} for its prompt and the longest answer that it allows."
            )
    return None


def _at_home(request: ModelRequest, first: Model, others: Sequence[Model]) -> list[Model]:
    """Those of the other models to which what the request refers to is known."""
    if not request.stored and b'"file_id"' not in request.body.raw:
        return list(others)
    # Kept by the provider of the first, and known to nobody else.
    home = (first.base_url, first.api_key)
    return [model for model in others if (model.base_url, model.api_key) == home]


def _obstacle_to_all(request: ModelRequest, models: Sequence[Model]) -> InvalidRequest:
    serving = [model for model in models if model.answers(request.api)]
    if not serving:
        return InvalidRequest(f"No configured model serves {request.api} on {AUTO!r}.", param="model")
    obstacles = [obstacle for model in serving if (obstacle := obstacle_to(request, model))]
    # Each reason once: many models may lack the same.
    reasons = " ".join(dict.fromkeys(obstacle.message for obstacle in obstacles))
    kind = type(obstacles[-1])
    return kind(f"No configured model can answer this request. {reasons[:1000]}", param=obstacles[-1].param)
