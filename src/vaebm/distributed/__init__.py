"""The only place that knows how many processes run, on which device, and in which precision."""

from vaebm.distributed.engine import Engine, EngineError, Precision, make_engine
from vaebm.distributed.hardware import hardware_facts, supports_bfloat16

__all__ = ["Engine", "EngineError", "Precision", "hardware_facts", "make_engine", "supports_bfloat16"]
