"""The configuration that a server confirms."""

from __future__ import annotations

from typing import Any

from google.protobuf.descriptor import FieldDescriptor

from negserve._protocol import messages
from negserve._protocol.messages import check_equal, invalid
from negserve.types.config import SamplerConfig
from negserve.types.dataset import Dataset
from negserve.v1 import sampler_pb2 as pb


class SamplerEcho:
    """Checks the configuration that servers confirm; it is the same on all streams and replicas.

    Algorithm version 0 asks for the newest: the first server names it, and all later streams must
    confirm that version.

    :raises InvalidRequestError: for a name, or a number, that the message can't hold
    """

    def __init__(self, dataset: Dataset, config: SamplerConfig) -> None:
        self._fingerprint = dataset.fingerprint
        self._config = config
        self._expected: pb.SamplerConfig | None = None

    def check(self, path: str, fingerprint: str, echo: pb.SamplerConfig) -> None:
        """Check a fingerprint and a configuration.

        :param path: name of the message in errors
        :raises InvalidAnswerError: naming the field
        """
        check_equal(f"{path}.fingerprint", fingerprint, self._fingerprint)
        expected = self._expected or _normalized(self._config)
        if expected.algorithm_version == 0:
            if echo.algorithm_version == 0:
                raise invalid(f"{path}.sampler.algorithm_version", 0, "the version in use")
            expected.algorithm_version = echo.algorithm_version
        for field in expected.DESCRIPTOR.fields:
            check_equal(
                f"{path}.sampler.{field.name}", _values(echo, field), _values(expected, field)
            )
        self._expected = expected


def _values(message: Any, field: FieldDescriptor) -> object:
    """Return the value of a field, None if it is not set; unknown fields of parts are left out."""
    if field.name == "mixture":
        return [(part.kind, part.shares) for part in message.mixture]
    if field.has_presence:
        return getattr(message, field.name) if message.HasField(field.name) else None
    value = getattr(message, field.name)
    return list(value) if field.is_repeated else value


def _normalized(config: SamplerConfig) -> pb.SamplerConfig:
    """Encode a configuration as servers confirm it."""
    message = messages.encode_config(config)
    repeated: tuple[Any, ...] = (message.corruption_scheme, message.filter_splits)
    for values in repeated:
        in_order = sorted(set(values))
        del values[:]
        values.extend(in_order)
    message.ClearField("candidates")
    kinds = {part.kind for part in message.mixture} or {message.kind}
    if pb.SAMPLER_KIND_DEGREE not in kinds:
        message.ClearField("alpha")
    return message
