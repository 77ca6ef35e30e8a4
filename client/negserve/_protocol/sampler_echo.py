"""The configuration that a server says it draws by."""

from __future__ import annotations

from typing import Any

from google.protobuf.descriptor import FieldDescriptor

from negserve._protocol import messages
from negserve._protocol.answers import check_equal, invalid
from negserve.types.config import SamplerConfig
from negserve.types.dataset import Dataset
from negserve.types.kinds import is_alpha_used
from negserve.v1 import sampler_pb2 as pb


class SamplerEcho:
    """What servers have to answer to a sampler's configuration, all of them the same.

    Of a configuration with algorithm version 0, the newest, the first answer says which that is;
    all later streams, on whatever replica, must have that one.

    :raises InvalidRequestError: for a name, or a number, that the message can't hold
    """

    def __init__(self, dataset: Dataset, config: SamplerConfig) -> None:
        self._fingerprint = dataset.fingerprint
        self._config = config
        self._due: pb.SamplerConfig | None = None

    def check(self, path: str, fingerprint: str, echo: pb.SamplerConfig) -> None:
        """Refuse another fingerprint or configuration than was asked for.

        :param path: of the message that has both
        :raises InvalidAnswerError: naming the field
        """
        check_equal(f"{path}.fingerprint", fingerprint, self._fingerprint)
        due = self._due or _filled_in(self._config)
        if due.algorithm_version == 0:
            if echo.algorithm_version == 0:
                raise invalid(f"{path}.sampler.algorithm_version", 0, "the version in use")
            due.algorithm_version = echo.algorithm_version
        for field in due.DESCRIPTOR.fields:
            came, expected = _values(echo, field), _values(due, field)
            if came != expected:
                raise invalid(f"{path}.sampler.{field.name}", came, expected)
        self._due = due


def _values(message: Any, field: FieldDescriptor) -> object:
    """Give what a message has in a field, None for nothing; without what nobody here knows."""
    if field.name == "mixture":
        return [(part.kind, part.shares) for part in message.mixture]
    if field.has_presence:
        return getattr(message, field.name) if message.HasField(field.name) else None
    value = getattr(message, field.name)
    return list(value) if field.is_repeated else value


def _filled_in(config: SamplerConfig) -> pb.SamplerConfig:
    """Encode a configuration as servers repeat it."""
    message = messages.encode_config(config)
    repeated: tuple[Any, ...] = (message.corruption_scheme, message.filter_splits)
    for values in repeated:
        in_order = sorted(set(values))
        del values[:]
        values.extend(in_order)
    message.ClearField("candidates")
    if not is_alpha_used(kind for kind, _ in config.mixture or ((config.kind, 1),)):
        message.ClearField("alpha")
    return message
