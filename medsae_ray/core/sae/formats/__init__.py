"""Readers and writers of the SAE files of this and other libraries."""
