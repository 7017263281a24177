"""Write a folder for a model hub: basicsr publish DIR --weights W, with config.json, model.safetensors and a model card"""
from __future__ import annotations

import argparse
from pathlib import Path

from basicsr.utils import pretrained
from basicsr.utils.errors import UserError, run_main
from basicsr.utils.files import as_stored
from basicsr.utils.outputs import check_new, check_outputs
from basicsr.utils.pretrained import OTHER_WEIGHTS, WeightFile, is_fetched, locate


def parse(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('output', type=as_stored, metavar='DIR',
                        help='the folder; `hf upload OWNER/REPOSITORY DIR` puts it on the hub')
    parser.add_argument('--weights', required=True, metavar='FILE',
                        help=f'.pth, .ckpt or .safetensors, {OTHER_WEIGHTS}')
    parser.add_argument('--opt', '-opt', metavar='YAML', help='option file, for weights that do not say their network')
    parser.add_argument('--key', help='entry of the weight file; default what --opt says, else params_ema, params')
    parser.add_argument('--data', help='a sentence: what they were trained on')
    parser.add_argument('--licence', help="what may be done with them: 'MIT', or a sentence")
    parser.add_argument('--overwrite', action='store_true', help='replace such files that DIR holds already')
    parser.add_argument(
        '--figures', metavar='FILE', help='the metrics.json of `basicsr evaluate`; without, the card says that'
        ' nothing was measured')
    return parser.parse_args(argv)


def run(args: argparse.Namespace) -> None:
    from basicsr.publishing.model_card import Facts, card, facts_of_shipped, read_figures
    if is_fetched(args.weights):
        raise UserError(f"'{args.weights}' are weights of others; link to where they are, and publish your own")
    shipped = facts_of_shipped(args.weights)
    data, licence = args.data or (shipped and shipped.data), args.licence or (shipped and shipped.licence)
    if not (data and licence):
        raise UserError(
            'a model card says what the weights were trained on and what may be done with them; give --data and'
            ' --licence')
    figures, how = (shipped.figures, shipped.how) if shipped else ({}, '')
    if args.figures:
        figures, how = read_figures(args.figures)
    network, preferred = None, None
    if args.opt:
        from basicsr.config import load_options
        opt = load_options(args.opt, is_train=False, check_files=False).opt
        network, preferred = opt['network_g'], opt['path'].get('param_key_g')
    from basicsr.weights.foreign import check_own
    from basicsr.weights.hub_folder import WRITTEN, save_pretrained
    from basicsr.weights.network import load_described
    found: WeightFile = locate(args.weights)
    target = Path(args.output)
    if target.resolve() == pretrained.folder().resolve():
        raise UserError(f"'{target}' holds the weights of the toolbox; choose another folder")
    outputs = [target / name for name in WRITTEN]
    check_outputs(outputs, [found.path, *filter(None, [args.opt, args.figures])], 'DIR')
    check_new(outputs, args.overwrite)
    net, options = load_described(found, network, args.key, preferred)
    check_own(net, found.path, 'are published')
    parameters = sum(p.numel() for p in net.parameters())
    save_pretrained(target, net, dict(options),
                    card(found.title, options, parameters, Facts(data, licence, figures, how)))
    print(f"{target}: {options['type']}, {parameters:,d} parameters, for `hf upload OWNER/REPOSITORY {target}`")


def main(argv: list[str] | None = None) -> int:
    return run_main(lambda: run(parse(argv)))
