import pytest

from deepseek import progress


@pytest.fixture(autouse=True)
def _quiet():
    with progress.quiet():
        yield
