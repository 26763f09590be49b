"""FastAPI on uvicorn, as its documentation has it: a pydantic model in, one out.

An ``async`` endpoint computes on the event loop; another is run in a thread, as is recommended for work that blocks.
"""

from fastapi import FastAPI
from pydantic import BaseModel

from benchmarks.serving_parts.models import chosen, numpy_rows

_, model = chosen()
app = FastAPI()


class Row(BaseModel):
    """The request."""

    x: list[float]


class Answer(BaseModel):
    """The response."""

    y: list[float]


@app.post("/predict")
async def predict(row: Row) -> Answer:
    """On the event loop."""
    return Answer(y=model(numpy_rows([row.x]))[0].tolist())


@app.post("/predict-in-thread")
def predict_in_thread(row: Row) -> Answer:
    """In a thread."""
    return Answer(y=model(numpy_rows([row.x]))[0].tolist())
