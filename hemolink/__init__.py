"""The front door: the ``hemolink`` command, the demo and the doctor.

It wires the other packages together and does none of their work. It may import all of them, lazily: a command pays only
for the role that it starts.
"""

__version__ = "0.1.0"
