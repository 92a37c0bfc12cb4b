"""Schedule search as Gymnasium environments; importing this registers the ``wpk/...`` ids.

`wpk_envs.envs.sb3` holds the Stable-Baselines3 environment and is imported when needed, for it needs torch.
"""

from wpk_envs.envs.observation import fields
from wpk_envs.envs.registration import env_id, register_all
from wpk_envs.envs.schedule_env import ScheduleEnv
from wpk_envs.envs.suite import Suite
from wpk_envs.envs.vector_env import ScheduleVectorEnv

__all__ = ["ScheduleEnv", "ScheduleVectorEnv", "Suite", "env_id", "fields", "register_all"]

register_all()
