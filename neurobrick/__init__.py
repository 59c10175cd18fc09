"""neurobrick: recordings of neurons and behavior in one harmonized, chunked, sliceable store.

    from neurobrick import Dataset
    ds = Dataset("data")
    window = ds.slice(ds.sessions[0], 12.0, 13.0)

The public names are listed in `__init__.pyi`; each is imported when it is first asked for, so that
`import neurobrick` costs next to nothing.
"""

import lazy_loader

__version__ = "0.1.0"

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
