"""Option files: read, checked, completed. See `load_options`."""
from basicsr.config.load import LoadedOptions, dict2str, find_path, freeze, load_options, project_root

__all__ = ['LoadedOptions', 'dict2str', 'find_path', 'freeze', 'load_options', 'project_root']
