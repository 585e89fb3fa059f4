"""The only place that knows how many processes run, on which device, and in which precision."""

from vaebm.distributed.engine import Engine, EngineError, Precision, launched_engine, launched_processes, make_engine
from vaebm.distributed.hardware import hardware_facts, supports_bfloat16
from vaebm.distributed.memory import keep_freed_memory, peak_memory, total_memory

__all__ = [
    "Engine",
    "EngineError",
    "Precision",
    "hardware_facts",
    "keep_freed_memory",
    "launched_engine",
    "launched_processes",
    "make_engine",
    "peak_memory",
    "supports_bfloat16",
    "total_memory",
]
