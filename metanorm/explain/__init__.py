"""Facts about a norm that follow from its spec: `metanorm explain`."""
