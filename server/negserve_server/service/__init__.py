"""The gRPC service: validate, call, encode."""

from negserve_server.service.authentication import Authentication
from negserve_server.service.datasets import Datasets
from negserve_server.service.handlers import SERVICE, make_handler
from negserve_server.service.health import Health, make_health_handler
from negserve_server.service.limits import Limits
from negserve_server.service.publications import Publications
from negserve_server.service.reflection import make_reflection_handler
from negserve_server.service.servicer import SamplerServicer
from negserve_server.service.streams import OpenStreams
from negserve_server.service.tokens import Tokens
from negserve_server.service.turns import Turns

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
