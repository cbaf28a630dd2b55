# SPDX-License-Identifier: Apache-2.0
"""Bundle in, prediction out. Needs no torch, no model folder and no exporter."""

from zoo.runtime.engines import Engine, NodePlacement, engine_status, open_engine
from zoo.runtime.model import Model, SelftestReport, load
from zoo.runtime.prediction import Prediction, Timing

__all__ = [
    "Engine",
    "Model",
    "NodePlacement",
    "Prediction",
    "SelftestReport",
    "Timing",
    "engine_status",
    "load",
    "open_engine",
]
