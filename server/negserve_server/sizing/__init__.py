"""How many replicas, processors and bytes a training needs, from measured costs."""
