"""Feature views: point-in-time correct training rows, and the same features online."""

from deepseek.data.features.store import FeatureStore
from deepseek.data.features.transformations import OnDemand, on_demand
from deepseek.data.features.view import FeatureView

__all__ = ["FeatureStore", "FeatureView", "OnDemand", "on_demand"]
