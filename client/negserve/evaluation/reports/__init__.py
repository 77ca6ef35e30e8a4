"""What ranks say: metrics, relation kinds, and the report that keeps them; numpy only."""
