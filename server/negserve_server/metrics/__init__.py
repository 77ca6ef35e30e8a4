"""What operators count and time, as Prometheus scrapes it; the only room of prometheus_client."""
