"""Python code as data, and its printer."""
