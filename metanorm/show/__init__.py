"""Pictures of what a norm pools."""
