"""Synthetic CT and MRI scans in TotalSegmentator's layout, with planted organs.

These are toys for trying the software, not medical images: bodies are ellipsoids and tubes, and nothing learned on them
carries over to a real scan.
"""
