"""The client of the service: one set of requests, sent and waited for, or awaited."""
