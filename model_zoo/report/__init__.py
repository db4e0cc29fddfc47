"""What a package does on labelled frames, as one page with its tables, and whether its activation maps can be believed.

`answers` runs the package over a manifest, `curves` and `tables` measure, `rivals` compares with simpler answers on the same
frames, `explanation` checks the maps, `gallery` chooses and draws frames, `statements` says what the figures can show, `run`
does all of it, `page` writes it down.
"""
