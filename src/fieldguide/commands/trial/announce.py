"""What is shown before a training begins or resumes."""

from fieldguide import world
from fieldguide.commands.trial.live import Trial
from fieldguide.recipe.schema import Recipe

MIXED = (
    "training photos are mixed with each other; training loss and accuracy are for mixed images, where the class with "
    "the larger share counts as right"
)


def announce(trial: Trial) -> None:
    """Says what is trained, on what and how."""
    recipe, counts, screen = trial.recipe, trial.assembled.parameters, trial.screen
    screen.say(
        f"recipe {trial.name}: {recipe.model.backbone} with {recipe.model.head} head, {counts['total']:,} parameters "
        f"({counts['backbone']:,} + {counts['head']:,}), {recipe.training.optimizer}, "
        f"on {world.choose_device(trial.device)}"
    )
    screen.say(trial.assembled.weights.sentence())
    screen.say(
        f"training on {len(trial.split.part('train')):,} photos, validation on {len(trial.split.part('val')):,}, "
        f"{len(trial.split.classes):,} classes"
    )
    for number, sentence in enumerate(trial.assembled.told):
        screen.say(f"{'then ' if number else 'plan: '}{sentence}")
    if told := trial.assembled.compiling:
        screen.say(f"torch.compile: {told}")
    if recipe.training.mix_probability:
        screen.say(MIXED)
    if told := _micro_batch(recipe):
        screen.say(told)
    for sentence in (*trial.rules["unverified"], *trial.assembled.feed.remarks):
        screen.warn(sentence)


def _micro_batch(recipe: Recipe) -> str:
    """What differs from training on whole batches; empty if nothing does."""
    batch, photos = recipe.training.batch_size, recipe.training.micro_batch_size
    trains = any(phase.batch_norm == "train" for phase in recipe.training.phases)
    if not (trains and batch and photos and photos < batch):
        return ""
    return (
        f"batch normalisation sees {photos} photos at a time, not the whole batch of {batch}, "
        f"because training.micro_batch_size is {photos}; where the phases say batch_norm: frozen or folded, that makes "
        "no difference"
    )
