"""What the documents show of the results: tables, sentences and charts."""
