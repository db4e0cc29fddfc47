"""Data in: from folders as laboratories keep them to a manifest, its groups and a sealed split.

`layout` reads a folder's naming, `picture` its files, `fingerprint` and `likeness` find near-duplicates, `crops` finds the
fields that crops were cut from, `ties` unites what belongs together, `survey` does all of it, `manifest` and `split` keep
the result. Needs numpy and OpenCV only.
"""
