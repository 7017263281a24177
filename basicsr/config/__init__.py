"""Option files: read, checked, completed. See `load_stages`."""
from basicsr.config.files import find_path
from basicsr.config.load import LoadedOptions, dict2str, freeze, load_options, load_stages, project_root

__all__ = ['LoadedOptions', 'dict2str', 'find_path', 'freeze', 'load_options', 'load_stages', 'project_root']
