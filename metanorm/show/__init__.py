"""Pictures of the pools of a norm."""
