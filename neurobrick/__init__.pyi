from .batch import SliceBatch as SliceBatch
from .dataset import Dataset as Dataset
from .errors import CorruptFile as CorruptFile
from .errors import FilterError as FilterError
from .errors import HarmonizeError as HarmonizeError
from .errors import NeurobrickError as NeurobrickError
from .errors import RecipeError as RecipeError
from .errors import SourceError as SourceError
from .errors import StoreError as StoreError
from .errors import UnsupportedFile as UnsupportedFile
from .intervals import Intervals as Intervals
from .manifest import DatasetSpec as DatasetSpec
from .manifest import Manifest as Manifest
from .manifest import SplitSpec as SplitSpec
from .rules import IntervalRule as IntervalRule
from .schema import SessionMetadata as SessionMetadata
from .session import BehaviorInfo as BehaviorInfo
from .session import Session as Session
from .slices import BehaviorSlice as BehaviorSlice
from .slices import Slice as Slice
from .slices import Spikes as Spikes
from .splits import split as split
from .windows import WindowBatch as WindowBatch
from .windows import Windows as Windows

__version__: str
