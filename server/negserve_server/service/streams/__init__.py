"""The streams of positives, triples and pairs: each message is answered in its turn."""
