"""What a stopped trial leaves behind: the places that its workers had on the cluster."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Mapping
from typing import Any

from ray import PlacementGroupID, tune
from ray.util.placement_group import PlacementGroup, remove_placement_group

from stillhouse.training.worker import PLACES

KILLED_AFTER_S = 5
"""Until the process of a stopped trial is killed that does not end by itself; Tune would wait ten minutes."""


class GivePlacesBack(tune.Callback):  # type: ignore[misc]
    """Removes the placement group of a stopped trial when its process is gone, and with it what still runs there.

    Ray Train has a helper for it, which asks the dashboard of the first Ray that it finds on the machine: it does
    nothing where that is another one or has none, and the next trial would wait for ever.
    """

    def __init__(self, wait_s: float = KILLED_AFTER_S + 3) -> None:
        self.wait_s = wait_s
        self.places: dict[str, str] = {}
        self.left: deque[tuple[float, str]] = deque()

    def on_trial_result(
        self, iteration: int, trials: list[Any], trial: Any, result: Mapping[str, Any], **info: Any
    ) -> None:
        """Note where a trial's workers are."""
        if PLACES in result:
            self.places[trial.trial_id] = result[PLACES]

    def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """A trial that came to its end has given them back by itself: then there is nothing to remove."""
        found = self.places.pop(trial.trial_id, None)
        if found is not None:
            self.left.append((time.monotonic(), found))

    def on_step_begin(self, iteration: int, trials: list[Any], **info: Any) -> None:
        """Look at the clock; Tune calls it many times a second."""
        while self.left and time.monotonic() - self.left[0][0] > self.wait_s:
            _, found = self.left.popleft()
            remove_placement_group(PlacementGroup(PlacementGroupID(bytes.fromhex(found))))
