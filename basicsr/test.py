"""Test a network on every val/test set of an option file: python basicsr/test.py --opt Options/RetinexMamba_LOL_v1.yml"""
from __future__ import annotations

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
if sys.path and Path(sys.path[0] or '.').resolve() == ROOT / 'basicsr':
    sys.path[0] = str(ROOT)  # started as a script: import this checkout, whatever else is installed

from basicsr.config.command_line import check_key, parse_command_line
from basicsr.utils.errors import UserError, run_main, run_program


def test_pipeline(root_path: str | Path | None = None, argv: list[str] | None = None) -> None:
    """Restore and measure every data set but the training one; images and metrics go to `results/<name>/`.

    Args:
        root_path: folder of `results/`, default the checkout or working directory.
        argv: arguments. Default: those of the process, which then is a program of its own, as BasicSR's projects are: a
            mistake ends it with a sentence and exit code 2.
    """
    run_program(lambda given: run(root_path, given), argv)


def run(root_path: str | Path | None, argv: list[str]) -> None:
    """`test_pipeline` for callers that handle mistakes themselves."""
    args = parse_command_line(__doc__, argv)
    from basicsr.config import load_options
    loaded = load_options(args.opt, args.overrides, is_train=False, root=Path(root_path) if root_path else None)
    if not [k for k in loaded.opt['datasets'] if not k.startswith('train')]:
        raise UserError(f"'{args.opt}' has no val or test data set")
    _choose_weights(loaded)
    check_key(loaded.opt['path'], args.key)
    from basicsr.data.build import build_val_data
    from basicsr.evaluation.files import write_test
    from basicsr.evaluation.validation import log_results
    from basicsr.models import build_model
    from basicsr.models.validation import measure_model, validates_itself
    from basicsr.training.launch import open_log, run_folders, start_run
    from basicsr.training.preflight import check_channels, check_validation
    from basicsr.utils.dist import shutdown
    from basicsr.utils.logger import get_root_logger
    opt = start_run(loaded, args.launcher)
    with loaded.naming_places():
        loaders = build_val_data(opt)
        model = build_model(opt)
        check_channels(opt, loaders)
        check_validation(opt, model, loaders)
    metrics, save_img, missing = opt['val']['metrics'], opt['val']['save_img'], 0
    with run_folders(opt, resuming=False):  # last, so that a start that fails leaves earlier results as they are
        open_log(opt, loaded)
        for loader in loaders:
            name = loader.dataset.opt['name']
            get_root_logger().info(f'Testing {name}...')
            found = measure_model(model, loader, opt['name'], None, save_img)
            if opt['rank'] == 0:
                weights = opt['path'].get('pretrain_network_g')
                write_test(Path(opt['path']['results_root']), name, found, metrics, weights)
            if not validates_itself(model):
                log_results(name, found, metrics, opt['name'])
            missing += sum(found.left_out.values())
    shutdown()
    if missing:
        raise UserError('some images have no number, as said above; the means leave them out')


test_pipeline.__test__ = False  # type: ignore[attr-defined]  # not a test case, although its name looks like one


def _choose_weights(loaded) -> None:
    """Without `path.pretrain_network_g`, the best or latest weights of the training run of this name."""
    from basicsr.config import experiments_of
    path = loaded.opt['path']
    if path.get('pretrain_network_g'):
        return
    run = experiments_of(path, Path(path['root'])) / loaded.opt['name']
    found = next((f for f in (run / 'best' / 'net_g_best.pth', run / 'models' / 'net_g_latest.pth') if f.is_file()),
                 None)
    if found is None:
        raise UserError(f"no weights to test: give path.pretrain_network_g=FILE, or train '{loaded.opt['name']}' first")
    path['pretrain_network_g'] = str(found)
    loaded.notices.append(f"path.pretrain_network_g is not given: testing '{found}'")


def main(argv: list[str] | None = None) -> int:
    return run_main(lambda: run(None, sys.argv[1:] if argv is None else argv))


if __name__ == '__main__':
    sys.exit(main())
