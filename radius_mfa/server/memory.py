"""How the process keeps its memory: what the allocator holds back, what the collector looks at."""

import ctypes
import gc

GC_ALLOCATIONS, GC_GENERATIONS = 10_000, 20
"""After how many new containers the garbage collector looks at them, and how often at the older."""

GIVE_BACK_SECONDS = 10.0

_M_ARENA_MAX = -8  # <malloc.h> of glibc


def use_one_arena() -> None:
    """Let all threads share one heap, before the first of them allocates anything.

    glibc gives each thread a heap of its own and keeps what was freed there: an argon2 hash takes
    19 MiB, so every hashing thread would hold as much for ever. One heap can be given back whole
    (``give_back``). Other C libraries have no such setting, and no such heaps.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_M_ARENA_MAX, 1)


async def give_back() -> float:
    """Give the system back what nothing uses any more; return the seconds until the next time."""
    malloc_trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if malloc_trim is not None:
        malloc_trim(0)
    return GIVE_BACK_SECONDS


def settle() -> None:
    """Spare the garbage collector what lives as long as the process.

    With Python's defaults every collection of the oldest generation stops all logins for as long
    as it takes to look through every library: 80 ms at the 99th percentile, 20 ms without.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(GC_ALLOCATIONS, GC_GENERATIONS, GC_GENERATIONS)
