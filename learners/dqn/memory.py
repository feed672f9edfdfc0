"""What a DQN learns from: uniform or prioritised replay, as its configuration says."""

from headrace.learners import dqn
from headrace.learners.dqn.prioritised import PrioritisedReplay
from headrace.learners.dqn.replay import Batch, ReplayBuffer


class Memory:
    """Rows of width D, and updates from what is drawn of them. prioritised: None where rows are drawn uniformly."""

    def __init__(self, config: dqn.DQNConfig, width: int) -> None:
        capacity, exponent = config.replay_capacity, config.priority
        self.prioritised = PrioritisedReplay(capacity, width, exponent) if exponent else None
        self.buffer = ReplayBuffer(capacity, width) if self.prioritised is None else self.prioritised.buffer

    def add(self, batch: Batch) -> None:
        """Append rows."""
        memory = self.buffer if self.prioritised is None else self.prioritised
        memory.add(batch)

    def update(self, state: dqn.DQNState) -> tuple[dqn.DQNState, dict[str, float]]:
        """Make one update; raises as `dqn.update` does."""
        rows = state.config.batch_size
        if self.prioritised is None:
            return dqn.update(state, self.buffer.sample(state.rng, rows))
        correction = dqn.priority_correction_at(state.config, state.updates)
        drawn = self.prioritised.sample(state.rng, rows, correction)
        state, metrics, errors = dqn.update_prioritised(state, drawn.batch, drawn.weight)
        self.prioritised.reprioritise(drawn.places, errors)
        return state, metrics
