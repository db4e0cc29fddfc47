"""Inference engines behind one narrow protocol; each imports its own runtime, and only when it is started."""

from model_zoo.engines.protocol import Engine, Outputs
from model_zoo.engines.selection import create_engine

__all__ = ["Engine", "Outputs", "create_engine"]
