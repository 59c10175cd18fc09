from .adaptation import adapt as adapt
from .decoder import Decoder as Decoder
from .recipe import Recipe as Recipe
from .stream import Stream as Stream
from .tensors import SampleTensors as SampleTensors
from .tensors import Tensors as Tensors
from .tensors import tensors as tensors
from .trainer import Trainer as Trainer
