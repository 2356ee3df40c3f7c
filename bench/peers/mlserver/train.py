"""MLServer: train the model that its runtime for scikit-learn loads."""

from __future__ import annotations

import sys

import joblib
from sklearn.datasets import load_iris
from sklearn.tree import DecisionTreeClassifier

if __name__ == "__main__":
    rows, labels = load_iris(return_X_y=True)
    joblib.dump(DecisionTreeClassifier(random_state=0).fit(rows, labels), sys.argv[1])
