"""Copying a corpus, or a part of it, to an object store and back."""

from neurobrick.transfer.copying import Copy
from neurobrick.transfer.pull import pull
from neurobrick.transfer.push import push

__all__ = ["Copy", "pull", "push"]
