"""The child of a trial: runs in the user's interpreter, so standard library and TensorFlow only.

Python 3.9 or newer. Started by path (``entry.py``), never imported by the parent.
"""
