"""The methods that the study was compared with, as rows that run: hand-made features and classical classifiers.

`features` describes an image in numbers, `methods` names the classifiers. scikit-image and scikit-learn do the work.
"""
