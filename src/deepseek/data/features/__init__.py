"""Feature views: point-in-time correct training rows, and the same features online."""

from deepseek.data.features.transformations import OnDemand, on_demand
from deepseek.data.features.view import FeatureView

__all__ = ["FeatureView", "OnDemand", "on_demand"]
