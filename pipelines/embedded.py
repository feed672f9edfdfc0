"""The whole stream in one process, in lock-step: a window from the fleet, ingest, learn, explain, and so on.

Nothing in it depends on time, so a seed gives the same rows, the same policies and the same reports.
"""

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from headrace.learners.dqn import DQNConfig
from headrace.pipelines import ingest, learn
from headrace.pipelines.core.tasks import TaskTable, add_task
from headrace.pipelines.fleet import Exploration, Fleet, VirtualClock, cloud_task
from headrace.pipelines.flow import run
from headrace.pipelines.learner import LearnSettings
