"""Errors that a user can mend: one line that names the thing, the place and the mend."""

from __future__ import annotations


class StillhouseError(Exception):
    """Base of every error that the command line prints as one line."""


class RecipeError(StillhouseError):
    """A recipe or search space that does not say something possible."""


class CollectionError(StillhouseError):
    """A collection, run file or qrels file that cannot be used as it is."""


class FormatError(StillhouseError):
    """A public file that is not what its format promises."""


class BackboneError(StillhouseError):
    """Weights that are missing, or are not the ones expected."""


class StoreError(StillhouseError):
    """A score store that cannot answer, or answers about something else."""


class TrainingError(StillhouseError):
    """Training that cannot go on."""


class SearchError(StillhouseError):
    """A search that cannot be placed, resumed or read."""


class TrackingError(StillhouseError):
    """A record that cannot be written or read."""


class ClusterError(StillhouseError):
    """A cluster that does not answer, or a job that cannot be sent."""
