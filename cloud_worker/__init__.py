"""The worker: takes frames from the broker, has the model look at them in batches, and publishes the diagnoses.

It imports `broker_config` and the serving part of `model_zoo` (package, catalogue, predictor, image), and never torch
itself: whether torch is loaded is the chosen engine's affair. Importing this package costs nothing; the parts are

`reception` -> `intake` -> `decoding` -> `batching` -> `inference` -> `answers` -> `publishing`, wired by `pipeline` and
`worker.Worker`. Beside them `journal`, `suspects` and `solitary` keep a frame that kills the process from killing the fleet.
"""
