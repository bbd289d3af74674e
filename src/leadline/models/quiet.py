"""Silence and order around a load: what transformers prints stays off the terminal, and one thread loads at a time."""

from __future__ import annotations

import logging
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["quiet"]

# While transformers builds a model it replaces functions of its own and of torch, and puts them back afterwards. Two
# threads that do so at once leave them replaced for good: later models then load with untied, random heads.
_ONE_AT_A_TIME = threading.RLock()


@contextmanager
def quiet() -> Iterator[None]:
    """Turn off what transformers and the hub print while the body runs; put everything back afterwards.

    Every call that builds or reads something with transformers stands in here, one thread's at a time. What matters
    in that noise (missing weights above all) is checked by the caller and raised.
    """
    from huggingface_hub.utils import logging as hub_logging
    from huggingface_hub.utils.tqdm import are_progress_bars_disabled, disable_progress_bars, enable_progress_bars
    from transformers.utils import logging as tf_logging

    with _ONE_AT_A_TIME, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        verbosity, hub_verbosity = tf_logging.get_verbosity(), hub_logging.get_verbosity()
        bars, hub_bars = tf_logging.is_progress_bar_enabled(), not are_progress_bars_disabled()
        try:
            tf_logging.set_verbosity(logging.CRITICAL)
            hub_logging.set_verbosity(logging.CRITICAL)
            # The hub's bars go with those of transformers.
            tf_logging.disable_progress_bar()
            yield
        finally:
            tf_logging.set_verbosity(verbosity)
            hub_logging.set_verbosity(hub_verbosity)
            if bars:
                tf_logging.enable_progress_bar()
            if hub_bars:
                enable_progress_bars()
            elif bars:
                disable_progress_bars()
