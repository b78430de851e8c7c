"""Compare graphs, checkpoints and temporal layers: render prompts on ComfyUI servers, measure, report."""
