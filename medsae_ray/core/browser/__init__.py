"""The browser of a finished run: pages for people, as files that work from a folder or behind the service."""
