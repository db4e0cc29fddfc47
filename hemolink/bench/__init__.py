"""Measurements and long runs that show what the tests only promise; each is a command of ``hemolink bench``.

May import everything, as the front door may. A bench talks to loopback only, ends by itself, and prints figures of this run,
never of another one. Each module holds one click command; `hemolink.commands.bench` lists them.
"""
