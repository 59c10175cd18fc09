from .dataset.behavior_info import BehaviorInfo as BehaviorInfo
from .dataset.dataset import Dataset as Dataset
from .dataset.session import Session as Session
from .dataset.slice import BehaviorSlice as BehaviorSlice
from .dataset.slice import Slice as Slice
from .dataset.slice import Spikes as Spikes
from .dataset.slice_batch import SliceBatch as SliceBatch
from .dataset.windows import WindowBatch as WindowBatch
from .dataset.windows import Windows as Windows
from .errors import CorruptFile as CorruptFile
from .errors import FilterError as FilterError
from .errors import HarmonizeError as HarmonizeError
from .errors import NeurobrickError as NeurobrickError
from .errors import RecipeError as RecipeError
from .errors import SourceError as SourceError
from .errors import StoreError as StoreError
from .errors import UnsupportedFile as UnsupportedFile
from .interval_rule import IntervalRule as IntervalRule
from .intervals import Intervals as Intervals
from .registry import DatasetSpec as DatasetSpec
from .registry import Manifest as Manifest
from .registry import SplitSpec as SplitSpec
from .schema import SessionMetadata as SessionMetadata
from .splits import split as split

__version__: str
