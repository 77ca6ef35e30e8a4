"""Programs that tests run: browsers, proxies, Prometheus, examples in other languages."""
