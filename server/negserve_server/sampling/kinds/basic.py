"""Kind ``basic``: each slot equally likely, values uniform over all ids of the slot."""

from negserve_server.sampling.kinds.distribution import Distribution

DISTRIBUTION = Distribution()
