"""The only package that uses ComfyUI's internals (`comfy.*`, `folder_paths`), so changes in it affect nothing else."""
