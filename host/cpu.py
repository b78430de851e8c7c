"""Import this first where ComfyUI's modules are used without its server on a machine that may have no GPU."""

import comfy.cli_args

comfy.cli_args.args.cpu = True
