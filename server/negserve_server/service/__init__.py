"""The gRPC service: validate, call, encode."""

from negserve_server.service.handlers import SERVICE, make_handler
from negserve_server.service.limits import Limits
from negserve_server.service.servicer import SamplerServicer
from negserve_server.service.streams import OpenStreams

__all__ = ["SERVICE", "Limits", "OpenStreams", "SamplerServicer", "make_handler"]
