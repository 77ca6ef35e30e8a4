"""The gRPC service: validate, call, encode."""

from negserve_server.service.datasets import Datasets
from negserve_server.service.handlers import SERVICE, make_handler
from negserve_server.service.limits import Limits
from negserve_server.service.publications import Publications
from negserve_server.service.servicer import SamplerServicer
from negserve_server.service.streams import OpenStreams

__all__ = [
    "SERVICE",
    "Datasets",
    "Limits",
    "OpenStreams",
    "Publications",
    "SamplerServicer",
    "make_handler",
]
