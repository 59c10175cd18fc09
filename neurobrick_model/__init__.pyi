from .adaptation.recipes import adapt as adapt
from .data.tensors import SampleTensors as SampleTensors
from .data.tensors import Tensors as Tensors
from .data.tensors import tensors as tensors
from .decoding.decoder import Decoder as Decoder
from .decoding.stream import Stream as Stream
from .recipe.recipe import Recipe as Recipe
from .training.trainer import Trainer as Trainer
