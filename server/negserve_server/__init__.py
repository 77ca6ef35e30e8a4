"""negserve's server: the graph, the filter index, the samplers and the gRPC service."""
