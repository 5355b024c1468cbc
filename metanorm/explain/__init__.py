"""What the compiler knows of a norm, in words."""
