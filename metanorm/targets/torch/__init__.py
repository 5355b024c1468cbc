"""The target that is always there: modules over plain torch operations."""
