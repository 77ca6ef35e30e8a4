"""What all benchmarks need: graphs, positives, turns and medians, child processes, goals."""
