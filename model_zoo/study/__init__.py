"""The published study as a protocol: trained as published (augment, then split) and honestly (split, then augment).

`recipe` holds what is done, as data; `plan` deals images and copies to both sides of a split; `protocol` trains and tests
one of them; `run` does all that was asked for; `page` shows it.
"""
