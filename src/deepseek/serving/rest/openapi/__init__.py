"""The OpenAPI 3.1 description (https://spec.openapis.org/oas/v3.1.1), made from what the server has at this moment.

Every model, task and feature view has paths of its own with the schemas of its signature, so that a generated client
has real types and a tester's requests reach real models. Each operation lists every status that it answers with;
``default`` would hide those that were forgotten.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from deepseek.serving.models.repository import ModelRepository
from deepseek.serving.openai import openapi as openai
from deepseek.serving.rest.openapi.feature_paths import feature_paths
from deepseek.serving.rest.openapi.model_paths import model_paths, task_paths
from deepseek.serving.rest.openapi.operations import COMPONENTS, SECURITY, TAGS, guard
from deepseek.serving.rest.openapi.server_paths import repository_paths, server_paths, watching_paths
from deepseek.serving.version import server_version

if TYPE_CHECKING:
    from deepseek.serving.features.catalogue import ServedView

__all__ = ["openapi_document"]


def openapi_document(
    repository: ModelRepository,
    *,
    views: Sequence[ServedView] | None = None,
    keys: bool = False,
    console: bool = False,
) -> dict[str, Any]:
    """Describe every route.

    Args:
        views: the feature views that can be read; ``None`` without a feature store.
        keys: whether requests need a key.
        console: whether there is a console page.
    """
    paths = server_paths(console) | openai.paths() | task_paths(repository) | model_paths(repository)
    paths |= repository_paths(repository.names) | watching_paths(repository.names)
    if views is not None:
        paths |= feature_paths(views)
    document: dict[str, Any] = {
        "openapi": "3.1.0",
        "info": {
            "title": "deepseek",
            "version": server_version(),
            "description": "Models over plain JSON and forms (/v1), and over the Open Inference Protocol (/v2).",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": "/"}],
        "tags": TAGS,
        "paths": paths,
        "components": COMPONENTS | {"schemas": COMPONENTS["schemas"] | openai.components()},
    }
    return guard(document, SECURITY) if keys else document
