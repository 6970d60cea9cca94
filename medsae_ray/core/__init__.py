"""The methods themselves, importable without Ray."""
