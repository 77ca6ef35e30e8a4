"""The RPCs: validate, call, encode; nothing is computed here."""

from negserve_server.service.admin_servicer import AdminServicer, make_admin_handler
from negserve_server.service.handlers import SERVICE, make_handler
from negserve_server.service.health import Health, make_health_handler
from negserve_server.service.reflection import make_reflection_handler
from negserve_server.service.servicer import SamplerServicer

__all__ = [
    "SERVICE",
    "AdminServicer",
    "Health",
    "SamplerServicer",
    "make_admin_handler",
    "make_handler",
    "make_health_handler",
    "make_reflection_handler",
]
