"""Option files: read, checked, completed. See `load_stages`."""
from basicsr.config.files import find_path, find_yaml
from basicsr.config.load import LoadedOptions, dict2str, experiments_of, freeze, load_options, load_stages
from basicsr.utils.places import project_root

__all__ = [
    'LoadedOptions', 'dict2str', 'experiments_of', 'find_path', 'find_yaml', 'freeze', 'load_options', 'load_stages',
    'project_root'
]
