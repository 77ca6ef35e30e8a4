"""What a server tells of a graph, of itself and of a publication, as values."""
