"""Cameras: where the pictures come from, behind one narrow Protocol (`edge_agent.cameras.base`).

One implementation a file; `edge_agent.cameras.registry` finds them, and those that others add through the
entry-point group ``hemolink.cameras``. The simulated camera alone imports `smear_simulator`.
"""
