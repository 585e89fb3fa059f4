"""Model folders and run folders: configurations and tensors in, configurations and tensors out, no classes.

Every write happens whole or not at all; every read checks what it reads, and no pickle is ever executed. Importing this
package does not import torch.
"""

from vaebm.checkpoint.atomic import replace_file, write_bytes, write_json
from vaebm.checkpoint.errors import CheckpointError
from vaebm.checkpoint.files import file_sha256, tensors_sha256
from vaebm.checkpoint.foreign import read_torch_file
from vaebm.checkpoint.json_text import read_json
from vaebm.checkpoint.model_folder import StoredModel, find_model_folder, load_model_folder, save_model_folder
from vaebm.checkpoint.published import Published
from vaebm.checkpoint.published_energy import read_published_energy
from vaebm.checkpoint.published_vae import read_published_vae
from vaebm.checkpoint.resolve import bundled_models, model_folders, resolve_model
from vaebm.checkpoint.row_file import RowFile
from vaebm.checkpoint.run_folder import RunFolder
from vaebm.checkpoint.state_file import load_state, save_state

__all__ = [
    "CheckpointError",
    "Published",
    "RowFile",
    "RunFolder",
    "StoredModel",
    "bundled_models",
    "file_sha256",
    "find_model_folder",
    "load_model_folder",
    "load_state",
    "model_folders",
    "read_json",
    "read_published_energy",
    "read_published_vae",
    "read_torch_file",
    "replace_file",
    "resolve_model",
    "save_model_folder",
    "save_state",
    "tensors_sha256",
    "write_bytes",
    "write_json",
]
