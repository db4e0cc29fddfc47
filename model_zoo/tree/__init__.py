"""Finer labels: a tree of diseases and their subtypes, and a head that answers as deep as it is certain.

`labels.json` is the tree with its sources, `labels` reads it, `grown` cuts it to what a training set has labels for, `head` is
the mathematics (numpy), `statement` what a package's card says, `fitting` makes the head from features (scikit-learn's
dependencies), `answer` applies it. Needs no torch.
"""
