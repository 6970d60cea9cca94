"""The methods, importable without Ray."""
