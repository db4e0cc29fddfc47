"""The microscope host: cameras, quality gate, encoder, disk spool, uplink and the agent that runs them.

The package imports the contract (`broker_config`) and, for the simulated camera only, `smear_simulator`. It sees no
model, no torch and no web framework; importing it costs next to nothing, because OpenCV is loaded on first use.
"""
