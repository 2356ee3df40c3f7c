"""What one compares with: FastAPI and one scikit-learn model, no bus, nothing recorded."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI
from pydantic import BaseModel
from sklearn.datasets import load_iris
from sklearn.tree import DecisionTreeClassifier


class Flower(BaseModel):
    """The input of the original system."""

    sepalLength: float  # noqa: N815 - the original's name
    sepalWidth: float  # noqa: N815 - the original's name
    petalLength: float  # noqa: N815 - the original's name
    petalWidth: float  # noqa: N815 - the original's name


rows, labels = load_iris(return_X_y=True)
model = DecisionTreeClassifier(random_state=0).fit(rows, labels)
app = FastAPI()


@app.post("/predict")
async def predict(flower: Flower) -> dict[str, Any]:
    """Score in the request, as the shortest service does."""
    row = [[flower.sepalLength, flower.sepalWidth, flower.petalLength, flower.petalWidth]]
    return {"modelResult": {"modelName": "dt", "result": int(model.predict(row)[0])}}
