"""The intermediate representation: nodes, axes, aggregations, types."""
