"""Keys that the schema does not list: which are mistakes, and which belong to what users of BasicSR bring."""
from __future__ import annotations

import difflib
import re
from collections.abc import Iterable
from typing import NamedTuple

from basicsr.config.report import Path, Problems

# what option files of BasicSR and its descendants hold, by block: correctly spelt, although nothing here reads it
_PUBLISHED = {
    '': """b_quantize degradation_type gan_gt_usm gaussian_noise_prob gaussian_noise_prob2 gray_noise_prob gray_noise_prob2
        gt_size gt_usm high_order_degradation jpeg_range jpeg_range2 l1_gt_usm noise_range noise_range2 percep_gt_usm
        poisson_scale_range poisson_scale_range2 queue_size resize_prob resize_prob2 resize_range resize_range2
        second_blur_prob set_CUDA_VISIBLE_DEVICES tile""",
    'datasets': """N_frames betag_range betag_range2 betap_range betap_range2 blur_kernel_size blur_kernel_size2 blur_sigma
        blur_sigma2 border_mode cache_data cache_keys color_jitter_prob color_jitter_pt_prob color_jitter_shift
        component_path crop_components dataroot_flow downsample_range eye_enlarge_ratio final_sinc_prob flip_sequence
        gray_prob gt_gray interval_list jpeg_range kernel_list kernel_list2 kernel_prob kernel_prob2 meta_info mode
        noise_range num_frame out_size padding random_reverse save_img sinc_prob sinc_prob2 test_mode
        testing_dir train_size use_duf_downsampling use_flip val_partition""",
    'train': """dcn_lr_mul fix_flow flow_lr_mul lr_flow mixing_prob net_d_reg_every net_g_reg_every path_batch_shrink
        path_reg_weight r1_reg_weight tsa_iter""",
    'val': """cache_data center_frame_only crop_size_h crop_size_h_ratio crop_size_w crop_size_w_ratio flip_seq grids gt_size
        interval_list num_val_samples patchwise_testing
        selfensemble_testing trans_num use_chop""",
}
# networks beside net_g have names that are alike
_OF_A_NETWORK = re.compile(r'(network|pretrain_network|strict_load|param_key|optim)_\w+')
_ALIKE = 0.8  # of two words, as difflib measures it: one letter of five is wrong


class Reader(NamedTuple):
    """Who may read a key that the schema does not list.

    Attributes:
        name: the component that is given the block, '' for none.
        outside: whether it is none of ours, and given the whole block, so that it may read any key.
        words: text constants of its source, among which are the keys that it reads.
        others: keys that belong here beside other components, e.g. arguments of other data sets.
    """
    name: str = ''
    outside: bool = False
    words: frozenset[str] = frozenset()
    others: frozenset[str] = frozenset()

    def may_read(self, path: Path, allowed: Iterable[str], problems: Problems) -> bool:
        """Whether the key is no mistake. What nobody is known to read is told in a notice."""
        key, block = path[-1], str(path[0]) if len(path) > 1 else ''
        if not self.name or not isinstance(key, str):
            return False
        if self.outside and key in self.words:
            return True
        known = key in self.others or key in _PUBLISHED.get(block, '').split()
        if not self.outside:
            if known:
                problems.notice(path, f'ignored ({self.name} does not read it)')
            return known
        if not known and not _OF_A_NETWORK.fullmatch(key) and difflib.get_close_matches(
                key, [*allowed, *self.likely_keys()], 1, _ALIKE):
            return False
        problems.notice(path, f'no code here reads it; {self.name} may')
        return True

    def likely_keys(self) -> list[str]:
        return sorted(word for word in self.words if word.isidentifier() and len(word) > 3) if self.outside else []


NOBODY = Reader()
