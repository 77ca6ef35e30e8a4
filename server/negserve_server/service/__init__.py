"""The RPCs: validate, call, encode; nothing is computed here."""

from negserve_server.admission.authentication import Authentication
from negserve_server.admission.limits import Limits
from negserve_server.admission.streams import OpenStreams
from negserve_server.admission.tokens import Tokens
from negserve_server.admission.turns import Turns
from negserve_server.publishing.datasets import Datasets
from negserve_server.publishing.publications import Publications
from negserve_server.service.handlers import SERVICE, make_handler
from negserve_server.service.health import Health, make_health_handler
from negserve_server.service.reflection import make_reflection_handler
from negserve_server.service.servicer import SamplerServicer

__all__ = [
    "SERVICE",
    "Authentication",
    "Datasets",
    "Health",
    "Limits",
    "OpenStreams",
    "Publications",
    "SamplerServicer",
    "Tokens",
    "Turns",
    "make_handler",
    "make_health_handler",
    "make_reflection_handler",
]
