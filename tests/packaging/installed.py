"""The installed command, used as one who has the wheel and no clone would use it."""

import os
import subprocess

TRAIN = "train --train ratings.csv --user who --item what --time when --name mine --epochs 1"
STEPS = (
    f"{TRAIN} --top_n [5] --dim 8",
    "evaluate --run runs/mine",
    "export --run runs/mine",
    "recommend --model runs/mine/export --users u1 u2 --k 3",
)


def use(command, folder, **environment):
    """Trains, evaluates, exports and asks, from a folder; returns what was said last."""
    rows = [f"u{user},{(7 * user + time) % 60},{time}" for user in range(40) for time in range(20)]
    (folder / "ratings.csv").write_text("\n".join(["who,what,when", *rows]))
    for step in STEPS:
        said = run([command, *step.split()], folder, **environment)
    return said


def run(command, folder, **environment):
    """What a command says; what is wrong goes to stderr."""
    environment = {**os.environ, **environment}
    done = subprocess.run(command, cwd=folder, env=environment, stdout=subprocess.PIPE, text=True)
    assert done.returncode == 0, done.stdout
    return done.stdout
