"""Networks as steps: the default bridge, a container's endpoint, addresses, and the files that name them."""
