"""Readers' judgements of features: their record, the log that keeps them, reader studies, and agreement."""
