"""The status page: what a server shows people at the port of its metrics, and lets them draw."""
