"""The process as its operator sees it: log lines, signals, limits. No gRPC, no graph."""
