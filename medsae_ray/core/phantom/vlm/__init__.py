"""The small vision-language model that is trained on synthetic radiographs, and its lessons.

It is a toy for trying the software: it has never seen a medical image and is of no use on one.
"""
