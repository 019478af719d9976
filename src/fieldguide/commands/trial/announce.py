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
        screen.warn(told)
    for sentence in (*trial.rules["unverified"], *trial.assembled.feed.remarks):
        screen.warn(sentence)


def _micro_batch(recipe: Recipe) -> str:
    """What differs from training on whole batches; empty if nothing does."""
    batch, photos = recipe.training.batch_size, recipe.training.micro_batch_size
    phases = [number for number, phase in enumerate(recipe.training.phases) if phase.batch_norm == "train"]
    if not (phases and batch and photos and photos < batch):
        return ""
    fields = " and ".join(f"training.phases.{number}.batch_norm" for number in phases)
    frozen = f", or set {fields} to frozen (or folded, for small rates)"  # both keep pretrained statistics
    return (
        f"batch normalisation sees {photos} photos at a time, not the whole batch of {batch}, because "
        f"training.micro_batch_size is {photos}: what memory holds, unless you set it. This changes the training. To "
        f"avoid it, choose a smaller training.batch_size{'' if recipe.model.weights == 'none' else frozen}"
    )
