"""The only room that touches ComfyUI's internals (`comfy.*`, `folder_paths`): when ComfyUI changes, this changes."""
