"""mini-swe-agent by its own Python interface, with its own configuration `mini.yaml`: one task, here."""
import os, pathlib

import yaml
from minisweagent import package_dir
from minisweagent.agents.default import DefaultAgent
from minisweagent.environments.local import LocalEnvironment
from minisweagent.models.litellm_model import LitellmModel

config = yaml.safe_load((package_dir / "config/mini.yaml").read_text())
model = config["model"] | {"model_name": "anthropic/simulated", "cost_tracking": "ignore_errors"}
model["model_kwargs"] = model.get("model_kwargs", {}) | {"api_base": os.environ["MODEL_URL"], "api_key": os.environ["MODEL_KEY"]}
agent_fields = {"system_template", "instance_template", "step_limit", "cost_limit"}
agent = DefaultAgent(
    LitellmModel(**model),
    LocalEnvironment(**config.get("environment", {})),
    **{name: value for name, value in config["agent"].items() if name in agent_fields},
)
ended = agent.run(pathlib.Path(os.environ["TASK_FILE"]).read_text())
if ended.get("exit_status") != "Submitted":
    raise SystemExit(f"it ended with {ended}")
