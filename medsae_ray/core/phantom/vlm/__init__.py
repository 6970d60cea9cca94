"""The small vision-language model that is trained on synthetic radiographs, and what it was taught.

A toy for trying the software: it has never seen a medical image and says nothing about one.
"""
