from .decoder import Decoder as Decoder
from .recipe import Recipe as Recipe
from .trainer import Trainer as Trainer
