"""No record shows a login: an address that holds one is refused, in one line that does not repeat it."""

from __future__ import annotations

import pytest

from stillhouse.errors import RecipeError, TrackingError
from stillhouse.recipe import load_recipe
from stillhouse.recipe.address import check_address
from stillhouse.tracking import MlflowTracker, tracking_spec

SECRET = "hunter2"


@pytest.mark.parametrize(
    "uri",
    [
        "none",
        "sqlite:///.stillhouse/mlflow.db",
        "sqlite:////a:b/c@d/mlflow.db",
        "http://127.0.0.1:5000",
        "https://mlflow.example/team?workspace=a",
        "postgresql+psycopg://stillhouse@db.example:5432/mlflow",
        "file:///home/a@b/mlruns",
    ],
)
def test_addresses_without_a_login_pass(uri: str) -> None:
    assert check_address(uri) == uri


@pytest.mark.parametrize(
    ("uri", "mend"),
    [
        (f"http://user:{SECRET}@mlflow.example:5000", "MLFLOW_TRACKING_PASSWORD"),
        (f"https://{SECRET}@mlflow.example", "MLFLOW_TRACKING_TOKEN"),
        (f"postgresql://stillhouse:{SECRET}@db.example/mlflow", "PGPASSWORD"),
        (f"postgresql://db.example/mlflow?user=a&password={SECRET}", "PGPASSWORD"),
        (f"mysql+pymysql://a:{SECRET}@db.example/mlflow", "own tools"),
    ],
)
def test_a_login_is_refused_wherever_an_address_is_given(uri: str, mend: str) -> None:
    said = []
    with pytest.raises(RecipeError) as caught:
        load_recipe("demo", [f"tracking.uri={uri}"])
    said.append(str(caught.value))
    assert "demo.yaml: tracking.uri: the address holds a login" in said[0]
    for open_it in (tracking_spec, lambda one: MlflowTracker(one, "toy")):
        with pytest.raises(TrackingError) as refused:
            open_it(uri)
        said.append(str(refused.value))
    for line in said:
        assert mend in line
        assert SECRET not in line
        assert "\n" not in line
