"""Everything that a run needs before its first step, made from a recipe."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch.optim.swa_utils import AveragedModel

from neurobrick import Dataset, Progress
from neurobrick_model.adaptation.starting_weights import FreshWeights, starting_weights
from neurobrick_model.compute.cpu_threads import CpuThreads
from neurobrick_model.compute.device import choose_device, choose_precision
from neurobrick_model.compute.ranks import Ranks
from neurobrick_model.data.corpus import Corpus
from neurobrick_model.decoding.spec import DecoderSpec
from neurobrick_model.model.perceiver import Perceiver
from neurobrick_model.recipe.recipe import ResolvedRecipe
from neurobrick_model.training.batches import BatchMaker
from neurobrick_model.training.compile import compile_parts, compiles
from neurobrick_model.training.optimization.gradients import Gradients
from neurobrick_model.training.optimization.loss import Objective
from neurobrick_model.training.optimization.optimizers import averaged, make_optimizers
from neurobrick_model.training.throughput import Meter

CACHE = 2**28  # bytes of decoded arrays; the corpus is read once, so few are needed


@dataclass(frozen=True)
class Setup:
    """A run before its first step. The tensors inside change as it trains."""

    recipe: ResolvedRecipe
    ranks: Ranks
    device: torch.device
    precision: torch.dtype  # of matrix products
    start: FreshWeights  # which weights the run starts with, and which of them learn
    corpus: Corpus
    spec: DecoderSpec  # of the decoder that the run leaves
    model: Perceiver
    average: AveragedModel | None  # the averaged weights, if the recipe has training.ema
    optimizers: list[torch.optim.Optimizer]
    objective: Objective  # the model with its loss
    batch_maker: BatchMaker
    meter: Meter
    gradients: Gradients


def set_up(
    recipe: ResolvedRecipe, dataset: Dataset | None, progress: Progress, ranks: Ranks
) -> Setup:
    """Read the corpus, and make the model with its optimizers.

    `dataset` is opened from the recipe's root if it is None. Raises RecipeError when the recipe
    does not fit the sessions, the ranks or the device, and StoreError when a store cannot be read.
    """
    settings = recipe.training
    ranks.check(settings.batch)
    device = choose_device(settings.device, ranks.local)
    precision = choose_precision(settings.precision, device)
    dataset = dataset if dataset is not None else Dataset(recipe.data.root, cache_bytes=CACHE)
    start = starting_weights(recipe)
    corpus = Corpus.from_dataset(
        dataset, recipe.data, device, progress.say, settings.seed, start.inherited,
        recipe.evaluation,
    )  # fmt: skip
    spec = DecoderSpec.describe(recipe, corpus)
    start.check(spec)
    model = _model(spec, start, settings.seed, device)
    average = averaged(model, settings.ema) if settings.ema else None
    optimizers = make_optimizers(model, settings)
    objective = Objective(model, precision, corpus.targets.readouts)
    compiled = compiles(settings, device)
    if compiled:
        compile_parts(model)
    padded = compiled and device.type == "cuda"
    batch_maker = BatchMaker(corpus, settings, recipe.model.window, model.sites, padded=padded)
    outputs = len(corpus.axes)
    meter = Meter(recipe.model, settings.queries, outputs, device, precision, ranks.count)
    threads = None
    if device.type == "cpu" and ranks.count == 1 and not compiled and torch.get_num_threads() > 1:
        threads = CpuThreads(torch.get_num_threads())
    gradients = Gradients(objective, batch_maker, settings, ranks, threads, meter)
    return Setup(
        recipe=recipe,
        ranks=ranks,
        device=device,
        precision=precision,
        start=start,
        corpus=corpus,
        spec=spec,
        model=model,
        average=average,
        optimizers=optimizers,
        objective=objective,
        batch_maker=batch_maker,
        meter=meter,
        gradients=gradients,
    )


def _model(spec: DecoderSpec, start: FreshWeights, seed: int, device: torch.device) -> Perceiver:
    """The model with the weights that the run starts with. The random state of the caller stays as
    it is."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = spec.build().to(device)
    start.start(model)
    start.set_learning(model, 0)
    return model
