"""The vision-language engine on a cluster: its replicas, the leases on it, and the client that asks it."""
