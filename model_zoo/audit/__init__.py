"""Is what a figure measures the disease? Tests that a data set has to pass before a model's figures mean anything.

`sample` chooses images, `views` shows each in full, by its background, or without colour, `paths` runs the published
protocol beside the honest one, `probe` asks whether the source shows, `power` says what so many images can show, `run`
does all of it, `page` writes it down.
"""
