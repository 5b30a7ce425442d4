"""Publishing: both logs as C2SP tlog-tiles, the bundle and the policy, in a folder that any web server can serve."""

from witness_service.publish.folder import Contradicted, Folder, FolderProblem
from witness_service.publish.publication import NotCosigned, Published, publish
from witness_service.publish.source import Source
from witness_service.publish.tree import Growth, Unfaithful

__all__ = [
    "Contradicted",
    "Folder",
    "FolderProblem",
    "Growth",
    "NotCosigned",
    "Published",
    "Source",
    "Unfaithful",
    "publish",
]
