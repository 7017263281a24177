"""Option files: read, checked, completed. See `load_stages`."""
from basicsr.config.files import find_path
from basicsr.config.load import LoadedOptions, dict2str, experiments_of, freeze, load_options, load_stages, project_root

__all__ = [
    'LoadedOptions', 'dict2str', 'experiments_of', 'find_path', 'freeze', 'load_options', 'load_stages', 'project_root'
]
