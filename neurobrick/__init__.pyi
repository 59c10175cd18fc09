from .batch import SliceBatch as SliceBatch
from .dataset import BehaviorInfo as BehaviorInfo
from .dataset import BehaviorSlice as BehaviorSlice
from .dataset import Dataset as Dataset
from .dataset import Session as Session
from .dataset import Slice as Slice
from .dataset import Spikes as Spikes
from .errors import CorruptFile as CorruptFile
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
from .splits import split as split

__version__: str
