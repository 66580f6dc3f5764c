"""What Temporal shows and finds of a run from its start on, before the run itself has said anything.

Pure but for Temporal's types; not in workflow code.
"""

from __future__ import annotations

from temporalio.common import SearchAttributeKey, SearchAttributePair, TypedSearchAttributes

from assent import protocol
from assent.layout import wrapped
from assent.protocol import RunRequest
from assent.render import bounded, code, fenced


def summary_of(request: RunRequest) -> str:
    """The run in one line of Markdown."""
    return f"{code(request.agent)}: {code(bounded(request.input, 200))}"


def details_of(request: RunRequest) -> str:
    """What the run was asked, and by whom, in Markdown."""
    asker = f"Asked for by {code(request.requested_by)}.\n\n" if request.requested_by else ""
    return f"Agent {code(request.agent)}. {asker}Prompt:\n\n{fenced(wrapped(bounded(request.input, 10_000)))}"


def attributes_of(request: RunRequest) -> TypedSearchAttributes:
    """The search attributes that are known already."""
    pairs: list[SearchAttributePair[str]] = [
        SearchAttributePair(SearchAttributeKey.for_keyword(protocol.ATTRIBUTE_AGENT), request.agent),
        SearchAttributePair(SearchAttributeKey.for_keyword(protocol.ATTRIBUTE_STATUS), "running"),
    ]
    if request.requested_by:
        key = SearchAttributeKey.for_keyword(protocol.ATTRIBUTE_REQUESTED_BY)
        pairs.append(SearchAttributePair(key, protocol.keyword(request.requested_by)))
    return TypedSearchAttributes(pairs)
